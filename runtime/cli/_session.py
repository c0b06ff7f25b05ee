"""One run, hosted by a command: engine, swarm and view opened inside one another, and closed in order.

Owns what `run`, `resume` and `demo` have in common. Invariants: the view is told of every run that began and how it
ended; whatever stops a run after it began, a bug included, is chained to a RunStopped that says how to go on.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio

from agents.host import Outcome
from agents.told import rejected_text
from runtime.cli._engine import Opener
from runtime.cli._main import say
from runtime.cli._signals import run_until_signal
from runtime.errors import Interrupted, OutputLost, RunStopped, leaves
from runtime.records import Record
from runtime.state import RunState
from runtime.stats import Stats, count
from runtime.view import Events, Judgement, Times

if TYPE_CHECKING:
    from runtime.engine.base import Engine
    from runtime.swarm import Swarm

__all__ = ["EXIT_CODES", "Session", "View", "choose_view", "say_why"]

EXIT_CODES = {
    Outcome.FINISHED: 0,
    Outcome.FAILED: 1,
    Outcome.REJECTED: 1,
    Outcome.CANCELLED: 1,
    Outcome.OUT_OF_BUDGET: 3,
}

Judge = Callable[[str], Judgement]
MakeSwarm = Callable[["Engine", list[Callable[[Record], None]]], "Swarm"]


class View(Protocol):
    """What shows a run: see `Events` and `LiveTree`."""

    def progress(self, line: str) -> None: ...
    def begin(self, state: RunState, root: Path, *, resumed: bool) -> None: ...
    def observe(self, record: Record) -> None: ...
    async def show(self) -> None: ...
    def end(self, outcome: str, result: str, root: Path, stats: Stats, judgement: Judgement | None = None) -> None: ...
    def stop(self) -> None: ...


def choose_view(*, as_json: bool, times: Times | None = None) -> View:
    """A live tree on a terminal; else, or if asked for, events. `times`: what is known already of a resumed run."""
    if as_json or not sys.stdout.isatty():
        return Events(sys.stdout)
    from rich.console import Console

    from runtime.view.live import LiveTree

    return LiveTree(Console(highlight=False), times or Times())


def say_why(state: RunState) -> None:
    """Say on standard error why a run's result was rejected, if it was: the result itself does not."""
    lead = next(iter(state.agents.values()), None)
    if lead is not None and lead.outcome is Outcome.REJECTED:
        say(f"{lead.id} is rejected. {rejected_text(lead)}")


class Session:
    """A run from opening its engine to its result. `task` is for the lead of a run that has none yet."""

    def __init__(
        self,
        engine: Opener,
        swarm: MakeSwarm,
        view: View,
        *,
        task: str,
        resumed: bool = False,
        hint: str = "",
        judge: Judge | None = None,
    ) -> None:
        """`hint`: options that a resume needs too. `judge`: says whether a result is right; a wrong one fails."""
        self._engine = engine
        self._make_swarm = swarm
        self._view = view
        self._task = task
        self._resumed = resumed
        self._hint = hint
        self._judge = judge
        self._root: Path | None = None
        self._state = RunState()
        self.outcome: Outcome | None = None
        self.result = ""

    @property
    def root(self) -> Path | None:
        """The run's own directory, once there is one."""
        return self._root

    def run(self) -> int:
        """Do it; returns the exit code. Raises RunStopped once the run has begun, else what came in the way."""
        try:
            return run_until_signal(self._host)
        except Exception as error:  # swallows nothing: it only adds how to go on
            self._view.stop()
            if self._root is None or not self._state.run:
                raise
            if self.outcome is None:
                interrupted = any(isinstance(leaf, Interrupted) for leaf in leaves(error))
                with contextlib.suppress(OutputLost):
                    self._tell("interrupted" if interrupted else "stopped", "")
            raise RunStopped(self._root, f"ramet resume {shlex.quote(str(self._root))}{self._hint}") from error

    async def _host(self) -> int:
        async with self._engine(self._view.progress) as engine:
            swarm = self._make_swarm(engine, [self._view.observe])
            async with swarm:
                self._root, self._state = swarm.layout.root, swarm.state
                self._view.begin(swarm.state, self._root, resumed=self._resumed)
                async with anyio.create_task_group() as group:
                    lead = next(iter(swarm.handles()), None) or await swarm.start(self._task)
                    group.start_soon(self._view.show)
                    result = await lead.result()
                    self.outcome, self.result = result.outcome, result.text
                    group.cancel_scope.cancel("the run is over")
            assert self.outcome is not None
            judgement = self._judge(self.result) if self._judge is not None else None
            self._tell(self.outcome, self.result, judgement)
            say_why(self._state)
        if judgement is not None:
            return 0 if judgement.right else 1
        return EXIT_CODES[self.outcome]

    def _tell(self, outcome: str, result: str, judgement: Judgement | None = None) -> None:
        assert self._root is not None
        self._view.end(outcome, result, self._root, count(self._state), judgement)
