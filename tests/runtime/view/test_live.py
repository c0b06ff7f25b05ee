"""The live tree on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import anyio
import pytest
from rich.console import Console

from runtime.swarm import Swarm
from runtime.view import Times
from runtime.view.live import LiveTree
from tests.support import ledgers, scripted, survey

pytestmark = pytest.mark.anyio


def terminal(height: int) -> Console:
    """A terminal of which we see what is written to it."""
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=height, highlight=False)


async def watched(directory: Path, console: Console, task: str) -> str:
    """A whole run of 12 copies, shown; returns what the terminal got."""
    ledgers(directory, list(range(12)))
    view = LiveTree(console, Times())
    async with Swarm(scripted(survey), directory, observers=[view.observe]) as swarm:
        view.begin(swarm.state, swarm.layout.root, resumed=False)
        async with anyio.create_task_group() as group:
            lead = await swarm.start(task)
            group.start_soon(view.show)
            result = await lead.result()
            group.cancel_scope.cancel()
    view.end(result.outcome, result.text, swarm.layout.root, swarm.statistics())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_a_run_is_shown_to_its_end(tmp_path: Path) -> None:
    """The last frame has every agent, and the result and the bill follow it."""
    text = await watched(tmp_path, terminal(40), "add up")
    last = text.rpartition("agent ")[2]
    assert "└─ a13 ledgers/l9.txt" in last
    assert "66" in last
    assert "recompute ratio" in last


async def test_a_low_terminal_shows_a_count(tmp_path: Path) -> None:
    """Where thirteen agents do not fit, those that ended are one row."""
    text = await watched(tmp_path, terminal(10), "add up")
    last = text.rpartition("agent ")[2]
    assert "a1 add up (+12)" in last
    assert "a13" not in last


async def test_markup_in_a_task_is_text(tmp_path: Path) -> None:
    """A task that looks like markup is shown as it is written."""
    assert "[bold red]add[/] [link=http://x]up" in await watched(
        tmp_path, terminal(30), "[bold red]add[/] [link=http://x]up"
    )
