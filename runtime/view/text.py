"""Rows as lines of text in columns. Pure.

Owns widths, numbers and cutting. Invariants: no line is wider than asked for, in terminal cells; whatever a model
or a person wrote is made harmless and put on one line. Does not know colours: a line carries its row's
outcome instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from rich.cells import cell_len, set_cell_size

from agents.host import Outcome
from runtime.state import RunState
from runtime.view.tree import Row
from workspace import harmless_name

__all__ = ["Line", "clock", "lines", "one_line", "totals"]

TASK_CELLS = 24  # a task that is cut shorter says nothing; columns give way first
STATE_CELLS = (14, 30)  # an outcome fits the least; a call in a few words the most


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what stands left (tree, id, task), then the columns."""

    left: str
    right: str = ""
    outcome: Outcome | None = None
    heading: bool = False
    living: bool = False


class _Column(msgspec.Struct, frozen=True):
    title: str
    cells: int
    value: Callable[[Row], str]


# In the order in which they are given up when there is no room, last first.
_COLUMNS = (
    _Column("time", 7, lambda row: clock(row.elapsed_s) if row.agent else ""),
    _Column("turns", 6, lambda row: str(row.turns)),
    _Column("context", 8, lambda row: f"{row.context_tokens:,}" if row.agent else ""),
    _Column("cached", 7, lambda row: "" if row.cached is None else f"{row.cached:.0%}"),
    _Column("sampled", 8, lambda row: f"{row.sampled_tokens:,}"),
)


def lines(rows: Sequence[Row], width: int, *, results: bool = False) -> list[Line]:
    """A heading, then a line a row; with `results`, what each agent answered below it, and why that was rejected."""
    columns: list[_Column] = []
    states = min(max(width // 5, STATE_CELLS[0]), STATE_CELLS[1])
    left = width - states - 1
    for column in _COLUMNS:
        if left - column.cells >= TASK_CELLS:
            columns.append(column)
            left -= column.cells
    left = max(left, 1)
    titles = "".join(column.title.rjust(column.cells) for column in columns)
    out = [Line(left=_fit("agent", left), right=_fit(f" {_fit('state', states)}{titles}", width - left), heading=True)]
    for row in rows:
        name = f"{row.agent} " if row.agent else ""
        more = f" (+{row.folded})" if row.agent and row.folded else ""
        values = "".join(_right(column.value(row), column.cells) for column in columns)
        # A name of three letters keeps its task in one column with its siblings'; agents are numbered.
        text = one_line(f"{row.branch}{name}{row.task}{more}")
        state = one_line(row.state)
        out.append(
            Line(
                left=_fit(text, left),
                right=_fit(f" {_fit(state, states)}{values}", width - left),
                outcome=row.outcome,
                living=bool(row.agent) and row.outcome is None,
            )
        )
        if results and row.agent and row.outcome is not None:
            answer = one_line(f"{row.trunk}= {row.result or '(no result)'}")
            out.append(Line(left=_fit(answer, width, pad=False), outcome=row.outcome))
            if row.why:
                out.append(Line(left=_fit(one_line(f"{row.trunk}! {row.why}"), width, pad=False), outcome=row.outcome))
    return out


def totals(state: RunState, now: float) -> str:
    """One line on the whole run."""
    agents = state.agents.values()
    prompt = sum(agent.prompt_tokens for agent in agents)
    cached = sum(agent.cached_tokens for agent in agents)
    share = f" ({cached / prompt:.0%} of prompts cached)" if prompt else ""
    trouble = ""
    if state.outage is not None:
        reason = one_line(state.outage.reason)
        trouble = f"trouble with the engine for {clock(now - state.outage.at)} ({reason}) | "
    # What a narrow terminal cuts off comes last.
    return (
        f"{clock(now - state.started_at)} | {trouble}{_plural(len(agents), 'agent')}, {state.alive} alive, "
        f"{_plural(sum(a.turns for a in agents), 'turn')} | budget {state.account.left():.0%} | "
        f"sampled {sum(a.sampled_tokens for a in agents):,}, computed {prompt - cached:,}{share}"
    )


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `3:05:00`."""
    minutes, second = divmod(int(max(seconds, 0.0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def one_line(text: str) -> str:
    """`text` without line breaks, tabs and anything that a terminal would obey."""
    return harmless_name(text.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")).rstrip()


def _fit(text: str, cells: int, *, pad: bool = True) -> str:
    """Exactly (or, without `pad`, at most) `cells` wide; cut with an ellipsis."""
    if cell_len(text) > cells:
        return set_cell_size(text, max(cells - 1, 0)) + "…" if cells > 0 else ""
    return text + " " * (cells - cell_len(text)) if pad else text


def _right(text: str, cells: int) -> str:
    # A number too wide for its column is cut visibly rather than pushed into its neighbour.
    return text.rjust(cells) if len(text) < cells else " " + _fit(text, cells - 1)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
