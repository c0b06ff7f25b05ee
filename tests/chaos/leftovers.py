"""What must not be left when a scope has been cancelled, on either event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from runtime.engine.scripted import ScriptedEngine
from runtime.engine.sglang import SGLang

__all__ = ["nothing_held", "nothing_left"]


def _descriptors() -> set[str]:
    """What this process has open that is not a thing of the event loop or the tests: sockets and files."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the listing's own
            continue
        if target.startswith("socket:") or (target.startswith("/") and not target.startswith(("/dev/", "/proc/"))):
            found.add(f"{name} {target}")
    return found


def _children() -> set[int]:
    """The processes that any thread of this one has started and that have not been waited for."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """After the block no task, open file, socket, child process or busy worker thread is left that was not there."""
    tasks = {task.id for task in anyio.get_running_tasks()}
    descriptors, children = _descriptors(), _children()
    yield
    await anyio.wait_all_tasks_blocked()  # what was cancelled has had its turn to end
    left = [task.name for task in anyio.get_running_tasks() if task.id not in tasks]
    assert not left, f"tasks: {left}"
    assert not (more := _descriptors() - descriptors), f"open: {more}"
    assert not (started := _children() - children), f"processes: {started}"
    assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


def nothing_held(engine: SGLang | ScriptedEngine) -> None:
    """No permit, request, session or reservation of the engine is held."""
    if isinstance(engine, ScriptedEngine):
        assert (engine.running, engine.tree.reserved, engine.tree.sessions) == (0, 0, 0)
        return
    assert engine._http.requests.borrowed_tokens == 0
    assert engine._http._control.borrowed_tokens == 0
    assert len(engine._http._idle) == len(engine._http._all)
    assert not engine._flights
