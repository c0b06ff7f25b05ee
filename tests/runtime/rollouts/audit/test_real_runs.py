"""Audits of rollouts that real swarms left, on the scripted engine: what joins is what agents were really told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from runtime.records import Settings
from runtime.rollouts.audit import Row, inspect, read_transcript
from runtime.rollouts.schema import Rollout
from runtime.rollouts.trace import Trace, rollouts_of
from runtime.swarm import Swarm
from tests.support import answer, call, scripted, tiny_chat

pytestmark = pytest.mark.anyio


PEEK = call("read_file", path=".git/logs/HEAD")


async def run(
    directory: Path, decide: Callable[[str], str], settings: Settings | None = None
) -> tuple[Rollout, list[Row]]:
    """A swarm's rollout, and what an audit of it finds."""
    (directory / ".git/logs").mkdir(parents=True)
    (directory / ".git/logs/HEAD").write_text("0000 3f9a2c1 the fix\n")
    trace = Trace()
    async with Swarm(scripted(decide), directory, settings=settings, observers=[trace.observe]) as swarm:
        await (await swarm.start("Repair it.")).result()
        (one,) = rollouts_of(swarm.state, trace)
    rows = inspect(read_transcript(one, tiny_chat()))
    before = structs.replace(one, edges=tuple(structs.replace(edge, told=()) for edge in one.edges))
    assert inspect(read_transcript(before, tiny_chat())) == rows  # a file from before `Edge.told` says the same
    return one, rows


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


async def test_a_host_who_peeks(tmp_path: Path) -> None:
    """Its answer taints the newcomer that asked, the copies that one becomes and who is told their results; a team
    whose host did not peek, and what the parent did before, stay clean."""

    def decide(text: str) -> str:
        told = text.rpartition("<|im_start|>user\n")[2]
        if "You are a copy that answers a2" in told:
            return call("finish", result="nothing that I know of")
        if "You are a copy that answers" in text.rpartition("<|im_start|>system\n")[2]:
            return call("finish", result="it is 3f9a2c1") if "3f9a2c1" in told else PEEK
        if "You are new." in text:
            if "Your task:" in told and "You are copy" in told:
                return call("finish", result="done")
            asked, begun = "nothing that I know of" in told or "it is 3f9a2c1" in told, "a5: " in told or "a9: " in told
            if begun:
                return call("finish", result=answer(text))
            return call("begin", understanding="clear") if asked else call("ask", questions=["which commit?"])
        teams = text.count("(interview: ")
        return call("spawn", tasks=["left", "right"]) if teams < 2 else call("finish", result="all")

    one, (row,) = await run(tmp_path, decide)
    kinds = {member.id: (member.kind, member.parent) for member in one.head.members}
    assert kinds["a3"] == ("host", "a2")
    assert kinds["a7"] == ("host", "a6")
    assert (row.class_, row.agent) == ("reflog", "a7")
    assert agents(one, row) == {"a7", "a6", "a8", "a9", "a1"}
    spawning = [edge for edge in one.edges if edge.agent == "a1"]
    assert [edge.id in row.taints for edge in spawning] == [False, False, True]


def reviewed(text: str, *, accepts: bool, author: bool) -> str:
    """a1 forks a2 and finishes; the first to review it peeks, unless the author has."""
    told = text.rpartition("<|im_start|>user\n")[2]
    if "You review work" in text:
        accepts = accepts or "second" in text
        if not ("3f9a2c1" in text or "second" in text or author):
            return PEEK
        return call("verdict", verdict="accept" if accepts else "revise", comments="compare it with the log")
    if "You are copy" in text:
        return call("finish", result="looked")
    if "a2: looked" not in text:
        return call("fork", tasks=["look"])
    if author and "3f9a2c1" not in text:
        return PEEK
    return call("finish", result="second" if "asks you to revise" in told else "first")


async def test_a_reviewer_who_peeks(tmp_path: Path) -> None:
    """Its comments taint the author's later turns, and nothing that came before them."""
    one, (row,) = await run(tmp_path, lambda text: reviewed(text, accepts=False, author=False), Settings(review=True))
    assert (row.class_, row.agent) == ("reflog", "a3")
    assert [edge.agent for edge in one.edges] == ["a1", "a2", "a1", "a3", "a4"]
    assert set(row.taints) == {2, 3, 4}  # a4 reviews what the author made of those comments


async def test_a_reviewer_who_peeks_and_accepts(tmp_path: Path) -> None:
    """The author is told nothing more."""
    one, (row,) = await run(tmp_path, lambda text: reviewed(text, accepts=True, author=False), Settings(review=True))
    assert agents(one, row) == {"a3"}


async def test_a_reviewer_of_one_who_peeked(tmp_path: Path) -> None:
    """It reads a result that was written by one who knew, though it does not see the author's context."""
    one, (row,) = await run(tmp_path, lambda text: reviewed(text, accepts=True, author=True), Settings(review=True))
    assert row.agent == "a1"
    assert agents(one, row) == {"a1", "a3"}
    assert one.edges[0].id not in row.taints
