"""Audits of rollouts that real swarms left, on the scripted engine: what joins is what agents were really told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.rollouts.audit import Row, inspect, read_transcript
from runtime.rollouts.schema import Rollout
from runtime.rollouts.trace import Trace, rollouts_of
from runtime.swarm import Swarm
from tests.support import answer, call, scripted, tiny_chat

pytestmark = pytest.mark.anyio


async def run(directory: Path, decide: Callable[[str], str]) -> tuple[Rollout, list[Row]]:
    """A swarm's rollout, and what an audit of it finds."""
    (directory / ".git/logs").mkdir(parents=True)
    (directory / ".git/logs/HEAD").write_text("0000 3f9a2c1 the fix\n")
    trace = Trace()
    async with Swarm(scripted(decide), directory, observers=[trace.observe]) as swarm:
        await (await swarm.start("Repair it.")).result()
        (one,) = rollouts_of(swarm.state, trace)
    return one, inspect(read_transcript(one, tiny_chat()))


def agents(one: Rollout, row: Row) -> set[str]:
    """Whose edges a row taints."""
    return {edge.agent for edge in one.edges if edge.id in row.taints}


async def test_a_copy_that_peeks(tmp_path: Path) -> None:
    """Its sibling stays clean; its parent, who is told its result, and a copy that is forked after that, do not."""

    def decide(text: str) -> str:
        own = text.rpartition("You are copy")[2]
        if "Your task: left" in own and "3f9a2c1" not in own:
            return call("read_file", path=".git/logs/HEAD")
        if "You are copy" in text and "Your task:" in own and "a2:" not in own.partition("Your task:")[2]:
            return call("finish", result="it is done")
        if "a2: it is done" not in text:
            return call("fork", tasks=["left", "right"])
        return call("finish", result="all") if "a4: it is done" in text else call("fork", tasks=["after"])

    one, (row,) = await run(tmp_path, decide)
    assert (row.class_, row.agent) == ("reflog", "a2")
    assert agents(one, row) == {"a1", "a2", "a4"}
    root = next(edge for edge in one.edges if edge.kind == "root")
    assert root.id not in row.taints


async def test_a_newcomer_of_one_who_peeked(tmp_path: Path) -> None:
    """It knows what the call that spawned it knew, though its context is fresh; a hit of its own reaches its parent."""

    def decide(text: str) -> str:
        if "You are new." in text:
            return call("finish", result="the newcomer's result")
        if "the newcomer's result" in answer(text):
            return call("finish", result="all")
        if "3f9a2c1" not in text:
            return call("read_file", path=".git/logs/HEAD")
        return call("spawn", tasks=["do it"], interview=False)

    one, (row,) = await run(tmp_path, decide)
    assert row.agent == "a1"
    assert agents(one, row) == {"a1", "a2"}


async def test_a_newcomer_who_peeks(tmp_path: Path) -> None:
    """Its parent is told the result, and was clean before."""

    def decide(text: str) -> str:
        if "You are new." in text:
            seen = "3f9a2c1" in text
            return call("finish", result="the newcomer's result") if seen else call("read_file", path=".git/logs/HEAD")
        if "the newcomer's result" in answer(text):
            return call("finish", result="all")
        return call("spawn", tasks=["do it"], interview=False)

    one, (row,) = await run(tmp_path, decide)
    assert row.agent == "a2"
    assert agents(one, row) == {"a1", "a2"}


async def test_a_rewind_of_one_who_peeked(tmp_path: Path) -> None:
    """The past self has the report, and is tainted by it."""

    def decide(text: str) -> str:
        if "You are back at" in text:
            return call("finish", result="all")
        if "3f9a2c1" in text:
            return call("rewind", to="t1", report="I know it now")
        return call("read_file", path=".git/logs/HEAD") if "list" in text else call("list_files", path="list")

    one, rows = await run(tmp_path, decide)
    tainted = {segment for row in rows for segment in row.taints}
    assert {edge.kind for edge in one.edges if edge.id in tainted} >= {"rewind"}
