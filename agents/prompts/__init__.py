"""The prompts, as files beside this module. Constant texts: what differs between agents comes last, elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["prompt"]


@cache
def prompt(name: str) -> str:
    """The text of `name`.md, stripped."""
    return (files(__name__) / f"{name}.md").read_text("utf-8").strip()
