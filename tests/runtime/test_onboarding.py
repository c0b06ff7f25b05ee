"""Spawning: newcomers ask before they begin, forks of their parent answer, nobody is interrupted. Scripted engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint

from agents.context import Segment
from agents.host import Outcome, ToolRefused
from runtime.budget import Budget
from runtime.recorder import load
from runtime.swarm import Swarm
from tests.runtime.test_family import turns
from tests.runtime.test_swarm import last_told, snapshot
from tests.support import answer, call, scripted, tiny_chat

pytestmark = pytest.mark.anyio
TASKS = ["north", "south", "west"]
FIGURES = {"north": 3, "south": 40, "west": 500}


def told_first(text: str) -> str:
    """The first message of a context."""
    return text.partition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]


def swarm_of_newcomers(text: str) -> str:
    """The parent knows the key, the newcomer asks for it in two rounds, each copy reads one file."""
    last = last_told(text)
    if "You are a copy that answers" in last:
        return call("finish", result="rye" if "Which key?" in last else "you know it already")
    if "You are new" not in told_first(text):  # the lead
        if "a3" in last or "interview:" in last:
            return call("finish", result=answer(text))
        return call("spawn", tasks=TASKS, brief="Add up ledgers.")
    if copy := re.search(r"You are copy \d+ of 3\. Your task: (\w+)", last):
        return call("read_file", path=f"{copy[1]}.txt")
    if found := re.search(r"rye: (\d+)", last):
        return call("finish", result=found[1])
    return [
        call("read_file", path="north.txt"),
        call("ask", questions=["Which key?"]),
        call("ask", questions=["Which key, again?"]),
        call("begin", understanding="add up rye"),
    ][turns(text)]


def ledgers(directory: Path) -> None:
    for name, figure in FIGURES.items():
        (directory / f"{name}.txt").write_text(f"oats: 9\nrye: {figure}\n")


async def test_one_interview_then_a_fork_for_each_task(tmp_path: Path) -> None:
    """A newcomer asks, host forks answer from the parent's context, and it becomes one copy a task; the parent gets the
    results and the path of the interview, and nothing else."""
    ledgers(tmp_path)
    async with Swarm(scripted(swarm_of_newcomers), tmp_path) as swarm:
        lead = await swarm.start("the key is rye")
        result = await lead.result()
    agents = swarm.state.agents
    lines = result.text.split("\n")
    assert [line.partition(": ")[2] for line in lines[:3]] == ["3", "40", "500"]
    assert re.fullmatch(r"\(interview: \.ramet/[\w-]+/agents/a2/interview\.md\)", lines[3])
    assert len(lines) == 4
    assert [a.outcome for a in agents.values()] == [Outcome.FINISHED] * 7
    newcomer, first, second = agents["a2"], agents["a3"], agents["a4"]
    assert newcomer.base.parent is None
    assert newcomer.parent == "a1"
    # The first host is the parent at the moment it spawned, the second is the first, which remembers.
    assert first.base.parent is swarm.state.segments[newcomer.called_by or 0]
    assert second.base.parent is first.head
    assert "read_file" in tiny_chat().text(newcomer.head.ids())
    assert "you have not begun" in tiny_chat().text(newcomer.head.ids())
    copies = [a for a in agents.values() if a.copies]
    assert [(c.parent, c.copy, c.copies, c.task) for c in copies] == [("a2", n, 3, t) for n, t in enumerate(TASKS, 1)]
    interview = swarm.layout.interview("a2").read_text()
    assert re.findall(r"^## (a\d \w+)", interview, re.MULTILINE) == [
        "a2 asks",
        "a3 answers",
        "a2 asks",
        "a4 answers",
        "a2 begins",
    ]
    bill = swarm.statistics()
    assert (bill.spawns, bill.forks) == (1, 1)
    assert snapshot(load(swarm.layout)) == snapshot(swarm.state)


async def test_the_parent_s_context_gains_only_the_results(tmp_path: Path) -> None:
    """What hosts and newcomers said is nowhere in it."""
    ledgers(tmp_path)
    async with Swarm(scripted(swarm_of_newcomers), tmp_path) as swarm:
        lead = await swarm.start("the key is rye")
        await lead.result()
    told = [s for s in lead.state.head.path() if s.origin == "given"]
    text = tiny_chat().text(told[0].tokens)
    assert len(told) == 2
    assert "Which key?" not in text
    assert "add up rye" not in text


@pytest.mark.parametrize("cut", range(2, 60, 3))
async def test_an_interview_survives_a_crash_at_any_record(tmp_path: Path, cut: int) -> None:
    """Resumed after any record, nobody is made twice, nothing is asked twice, and the end is the same."""
    ledgers(tmp_path)
    async with Swarm(scripted(swarm_of_newcomers), tmp_path) as swarm:
        result = await (await swarm.start("the key is rye")).result()
    lines = swarm.layout.journal.read_bytes().splitlines(keepends=True)
    swarm.layout.journal.write_bytes(b"".join(lines[: min(cut, len(lines) - 1)]))
    async with Swarm(scripted(swarm_of_newcomers), tmp_path, resume=swarm.layout) as resumed:
        again = await resumed.handles()[0].result()
    assert again.text == result.text
    assert len(resumed.state.agents) == 7
    assert snapshot(load(swarm.layout)) == snapshot(resumed.state)


async def test_without_an_interview_each_task_has_a_newcomer(tmp_path: Path) -> None:
    """They have the brief, their task and the paths of what they may read; what they share comes first."""

    def decide(text: str) -> str:
        if "You are new" in text:
            return call("finish", result=re.findall(r"Your task:\n(\w+)", text)[0])
        return [
            call("spawn", tasks=["x", "y"], brief="Be quick.", interview=False),
            call("finish", result=answer(text)),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        result = await (await swarm.start("t")).result()
    assert result.text == "a2: x\na3: y"
    one, two = swarm.state.agents["a2"], swarm.state.agents["a3"]
    text = tiny_chat().text(one.base.tokens)
    assert "Be quick." in text
    for path in ("task.md", "agents/a1/prompt.md", "agents/a1/history.md"):
        named = re.search(rf"\S+/{re.escape(path)}", text)
        assert named is not None
        assert (tmp_path / named[0]).is_file()
    assert shared(one.base, two.base) > 100


def shared(one: Segment, two: Segment) -> int:
    """Length of the tokens with which both begin."""
    same = [a == b for a, b in zip(one.tokens, two.tokens, strict=False)]
    return same.index(False)


async def test_a_newcomer_that_never_begins_is_an_outcome(tmp_path: Path) -> None:
    """After its questions and some patience it has failed, and its parent is told."""

    def decide(text: str) -> str:
        if "You are a copy that answers" in last_told(text):
            return call("finish", result="yes")
        if "You are new" in told_first(text):
            return call("ask", questions=["again?"])
        return [call("spawn", tasks=["x"], questions=2), call("finish", result=answer(text))][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        result = await (await swarm.start("t")).result()
    newcomer = swarm.state.agents["a2"]
    assert result.text.startswith("a2 failed: a2 never began")
    assert sum(agent.answers for agent in swarm.state.agents.values()) == 2
    assert "no more questions" in tiny_chat().text(newcomer.head.ids())


async def test_a_host_that_fails_is_told(tmp_path: Path) -> None:
    """A question without an answer is an error result; the newcomer may begin all the same."""

    def decide(text: str) -> str:
        if "You are a copy that answers" in text:
            return call("calc", expression="1")
        if "You are new" in told_first(text):
            return [
                call("ask", questions=["?"]),
                call("begin", understanding="-"),
                call("finish", result=text.replace("<", "(")),
            ][turns(text)]
        return [call("spawn", tasks=["x"]), call("finish", result=answer(text))][turns(text)]

    async with Swarm(scripted(decide), tmp_path, budget=Budget(turns=40)) as swarm:
        lead = await swarm.start("t")
        while "a3" not in swarm.state.agents or swarm.state.agents["a3"].turns < 2:
            await checkpoint()
        await swarm.stop("a3")
        result = await lead.result()
    assert "error: a3 cancelled" in result.text
    assert "Begun. Your task: x" in result.text


async def test_anybody_may_ask_later_and_copies_ask_who_started_the_first(tmp_path: Path) -> None:
    """Mid-task a question goes to a fork of the parent as it is now; a root has nobody to ask."""

    def decide(text: str) -> str:
        last = last_told(text)
        if "You are a copy that answers" in last:
            return call("finish", result="from " + ("the lead" if "I am the lead" in text else "nobody"))
        if "You are copy" in text and "You are new" in text:
            return call("finish", result=answer(text)) if "from" in last else call("ask", questions=["?"])
        if "You are new" in text:
            return call("begin", understanding="-")
        return [
            call("ask", questions=["who?"]),
            call("spawn", tasks=["x", "y"]),
            call("finish", result=answer(text)),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("I am the lead")
        result = await lead.result()
    assert result.text.count("from the lead") == 2
    assert "nobody started you but a person" in tiny_chat().text(lead.state.head.ids())


async def test_limits_hold_for_newcomers_and_their_hosts(tmp_path: Path) -> None:
    """Depth and living agents are limited for every way of creating an agent; asking and beginning are refused."""

    def decide(text: str) -> str:
        if "You are new" in told_first(text):
            return [
                call("ask", questions=["?"]),
                call("begin", understanding="-"),
                call("finish", result=text.replace("<", "(")),
            ][turns(text)]
        return [call("spawn", tasks=["x"]), call("finish", result=answer(text))][turns(text)]

    async with Swarm(scripted(decide), tmp_path, budget=Budget(depth=1)) as swarm:
        result = await (await swarm.start("t")).result()
    assert "agents may be 1 generations deep" in result.text
    async with Swarm(scripted(decide), tmp_path, budget=Budget(agents=2)) as swarm:
        result = await (await swarm.start("t")).result()
    assert "2 agents are alive and at most 2 may be" in result.text


async def test_spawning_from_python(tmp_path: Path) -> None:
    """The newcomer asks a fork of the agent, which is not told; its result is its copies'."""
    ledgers(tmp_path)

    def decide(text: str) -> str:
        if "You are new" in text or "You are a copy that answers" in text:
            return swarm_of_newcomers(text)
        return call("wait", until="any", timeout_s=0.01)

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("the key is rye")
        (newcomer,) = await lead.spawn(TASKS, brief="Add up ledgers.")
        result = await newcomer.result()
        assert sorted(line.partition(": ")[2] for line in result.text.split("\n")) == ["3", "40", "500"]
        assert "a2" not in tiny_chat().text(lead.state.head.ids())
        with pytest.raises(ToolRefused, match="agents are alive"):
            await lead.spawn(["x"] * 500, interview=False)
        await lead.cancel()
