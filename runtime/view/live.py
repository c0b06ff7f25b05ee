"""The tree of a run on a terminal, redrawn while it runs.

Owns the drawing. Invariants: at most FRAMES_PER_S frames a second, drawn by one task and by no thread; never higher
than the terminal; nothing that a model wrote is read as markup. What is drawn is `tree` and `text`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anyio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from agents.host import Outcome
from runtime.records import Record
from runtime.state import RunState
from runtime.stats import Stats
from runtime.view.judgement import Judgement
from runtime.view.progress import ProgressLine
from runtime.view.text import Line, lines, totals
from runtime.view.times import Times
from runtime.view.tree import rows
from workspace import harmless

__all__ = ["LiveTree", "styled"]

FRAMES_PER_S = 8  # faster than anybody reads; a frame of 40 agents costs about a millisecond
FURNITURE = 2  # lines of a frame that are not agents: the heading and the totals

_STYLES = {
    Outcome.FINISHED: "green",
    Outcome.FAILED: "red",
    Outcome.REJECTED: "red",
    Outcome.OUT_OF_BUDGET: "yellow",
    Outcome.CANCELLED: "yellow",
}


class LiveTree:
    """Shows a run on `console`. The same calls as `Events`, and `show` to be run beside the swarm."""

    def __init__(self, console: Console, times: Times, below: Callable[[int], list[str]] | None = None) -> None:
        """`below` gives up to so many lines that are shown under the tree."""
        self._console = console
        self._below = below
        self._times = times
        self._state: RunState | None = None
        self._live: Live | None = None
        self._progress = ProgressLine(console)

    def progress(self, line: str) -> None:
        """What the engine is doing while it is got ready, on one line that goes away."""
        self._progress(line)

    def begin(self, state: RunState, root: Path, *, resumed: bool) -> None:
        """Name the run that `show` is to draw."""
        self.stop()
        self._state = state
        verb = "resumed" if resumed else "run"
        self._console.print(Text(f"{verb} {root}", style="dim"))

    def observe(self, record: Record) -> None:
        """Note when agents begin and end."""
        self._times.observe(record)

    async def show(self) -> None:
        """Draw until cancelled; the last frame stays."""
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()
        try:
            while True:
                self._live.update(self._frame(), refresh=True)
                await anyio.sleep(1 / FRAMES_PER_S)
        finally:
            self._live.update(self._frame(), refresh=True)
            self.stop()

    def end(self, outcome: str, result: str, root: Path, stats: Stats, judgement: Judgement | None = None) -> None:
        """Print how the run ended: its result, whole, and its bill."""
        self.stop()
        if outcome in _STYLES:  # of an interrupted run standard error tells
            self._console.print(Text(outcome, style=_STYLES[Outcome(outcome)]))
        if result:
            self._console.print(Text(harmless(result)), soft_wrap=True)
        if judgement is not None:
            word, style = ("right", "bold green") if judgement.right else ("wrong", "bold red")
            self._console.print(Text(f"The truth is {harmless(judgement.truth)}: the answer is "), end="")
            self._console.print(Text(f"{word}."), style=style)
        self._console.print(
            Text(
                f"{stats.computed_tokens:,} tokens computed, {stats.cached_tokens:,} cached, "
                f"{stats.sampled_tokens:,} sampled; recompute ratio {stats.recompute_ratio:.2f}",
                style="dim",
            )
        )

    def stop(self) -> None:
        """Leave the terminal as it should be. Harmless twice."""
        self._progress.close()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _frame(self) -> Text:
        assert self._state is not None
        now, (width, height) = time.time(), self._console.size
        # One line less than the terminal has: the cursor's own line, without which every frame would scroll.
        below = self._below(height // 2) if self._below is not None else []
        room = max(height - FURNITURE - 1 - len(below), 1)
        drawn = lines(rows(self._state, self._times, now, room), width)
        cut = drawn[room + 1 :]
        if cut:
            drawn, cut = drawn[:room], drawn[room:]
            alive = sum(line.living for line in cut)
            drawn.append(Line(left=f"... {len(cut)} more rows, {alive} of them alive"))
        frame = styled(drawn)
        frame.append("\n")
        frame.append(totals(self._state, now), style="bold")
        frame.append("".join(f"\n{line}" for line in below), style="dim")
        frame.no_wrap, frame.overflow = True, "crop"
        return frame


def styled(drawn: list[Line]) -> Text:
    """Lines in colour, joined. Built piece by piece: markup in a task is only text."""
    out = Text(no_wrap=True, overflow="crop")
    for number, line in enumerate(drawn):
        if number:
            out.append("\n")
        whole = "dim" if line.heading else ""
        out.append(line.left, style=whole)
        out.append(line.right, style=whole or (_STYLES[line.outcome] if line.outcome else "cyan"))
    return out
