"""Showing a run to people and programs: a tree of its agents, live or not, and a stream of events."""

from runtime.view.events import Events
from runtime.view.judgement import Judgement
from runtime.view.text import Line, lines, totals
from runtime.view.times import Times
from runtime.view.tree import Row, nested, rows

__all__ = ["Events", "Judgement", "Line", "Row", "Times", "lines", "nested", "rows", "totals"]
