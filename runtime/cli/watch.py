"""`ramet watch`: look at a run that goes on, whoever runs it."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli._options import Json, Place
from runtime.errors import BadInput, Interrupted

if TYPE_CHECKING:
    from runtime.view.live import LiveTree
    from workspace import RunLayout

__all__ = ["watch"]

STEP_MS = 100  # how soon after a record it is shown
LULL_MS = 1_000  # how often the clock of a quiet run is redrawn
LETTERS = 3  # to people, shown below the tree


def watch(
    place: Place = Path(),
    agent: Annotated[str, typer.Option("--agent", "-a", help="Follow this agent's history below the tree.")] = "",
    as_json: Json = False,
) -> int:
    """Show a run as it goes on, with the latest mail to people; until it ends, or you press Ctrl-C."""
    from runtime.cli._logs import to_stderr
    from runtime.cli._signals import run_until_signal
    from runtime.recorder import Follower
    from runtime.state import RunState
    from workspace import RunLayout

    to_stderr()
    layout = RunLayout.open(place)
    state, follower = RunState(), Follower(layout)
    past = list(follower.new())
    for record in past:
        state.apply(record)
    if agent and agent not in state.agents:
        raise BadInput("--agent", f"no agent {agent!r}; there are {', '.join(state.agents) or 'none'}")

    async def follow() -> int:
        import anyio
        from watchfiles import awatch

        from runtime.stats import count
        from runtime.view import Events, Times

        times = Times.replay(past)
        if as_json or not sys.stdout.isatty():
            view: Events | LiveTree = Events(sys.stdout)
        else:
            from rich.console import Console

            from runtime.view.live import LiveTree

            view = LiveTree(Console(highlight=False), times, lambda most: _below(layout, agent, most))
        view.begin(state, layout.root, resumed=False)
        for record in past:
            view.observe(record)

        def over() -> bool:
            return state.outcome is not None

        stop = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(view.show)
            try:
                if not over():
                    async for _ in awatch(
                        layout.journal, stop_event=stop, step=STEP_MS, rust_timeout=LULL_MS, yield_on_timeout=True
                    ):
                        for record in follower.new():
                            state.apply(record)
                            view.observe(record)
                        if over():
                            break
            finally:
                stop.set()
                group.cancel_scope.cancel("there is nothing more to see")
        if state.outcome is not None:
            view.end(state.outcome, state.result, layout.root, count(state))
        return 0

    try:
        return run_until_signal(follow)
    except Interrupted:
        return 0  # that is how one stops looking


def _below(layout: RunLayout, agent: str, most: int) -> list[str]:
    """The latest mail to people, and the end of an agent's history."""
    from workspace import HUMAN, Post, harmless

    letters = [f"mail from {each.sender}: {each.subject}" for each in Post(layout).letters(HUMAN)[-LETTERS:]]
    if not agent:
        return letters[-most:]
    with layout.history(agent).open(encoding="utf-8", errors="replace") as file:
        file.seek(max(0, file.seek(0, 2) - 16_384))
        history = deque((harmless(line.rstrip("\n")) for line in file), maxlen=max(most - len(letters) - 1, 1))
    return [*letters, f"-- {agent} --", *history]
