"""Forks in hindsight, rewinding, waiting, cancelling, interrupting, succession: on the scripted engine."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agents.context import Origin
from agents.host import Outcome, ToolRefused
from runtime.budget import Budget
from runtime.recorder import load
from runtime.records import Settings
from runtime.swarm import Swarm
from runtime.turns import Turns
from runtime.view import Times, nested
from tests.runtime.test_swarm import last_told, snapshot
from tests.support import answer, call, ledgers, scripted, survey, tiny_chat
from workspace import RunLayout

pytestmark = pytest.mark.anyio


def turns(text: str) -> int:
    """How many turns a context holds."""
    return text.count("<|im_start|>assistant") - 1


async def test_a_fork_in_hindsight_knows_only_what_was_known(tmp_path: Path) -> None:
    """Copies from a checkpoint share the context up to it and nothing after; the parent stays where it is."""
    (tmp_path / "long.txt").write_text("wasted words " * 50)

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("finish", result="long" if "wasted" in text else "short")
        if "a2: " in text:
            return call("finish", result=last_told(text).partition("[")[0])
        return [
            call("calc", expression="1+1"),
            call("read_file", path="long.txt"),
            call("fork", tasks=["x", "y"], at="t1"),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        result = await (await swarm.start("t")).result()
    assert "a2: short" in result.text
    assert "a3: short" in result.text
    lead, copy = swarm.state.agents["a1"], swarm.state.agents["a2"]
    cut = copy.base.parent
    assert cut is lead.head.checkpoint(1)
    assert cut.origin is Origin.GIVEN


def detour(text: str) -> str:
    """Writes a note, reads something long, and goes back with what it learned."""
    if "You are back at t1" in text:
        return call("finish", result=last_told(text))
    return [
        call("calc", expression="1+1"),
        call("write_file", path="note.txt", text="n"),
        call("read_file", path="long.txt"),
        call("rewind", to="t1", report="the key is oats"),
    ][turns(text)]


async def test_a_rewind_keeps_the_report_and_what_was_done(tmp_path: Path) -> None:
    """The past self gets the report and the list of deeds since; the path it left stays in the tree."""
    (tmp_path / "long.txt").write_text("wasted words " * 50)
    async with Swarm(scripted(detour), tmp_path) as swarm:
        lead = await swarm.start("t")
        result = await lead.result()
    assert "the key is oats" in result.text
    assert "wrote note.txt" in result.text
    text = tiny_chat().text(lead.state.head.ids())
    assert "wasted" not in text
    assert any("wasted" in tiny_chat().text(s.tokens) for s in swarm.state.segments.values())
    assert "wasted" in swarm.layout.history("a1").read_text()
    assert swarm.statistics().rewinds == 1


@pytest.mark.parametrize("where", range(0, 40, 3))
async def test_a_rewind_survives_a_crash_at_any_record(tmp_path: Path, where: int) -> None:
    """Cut after any record, the run goes on to the same end: rewound once, nothing done twice."""
    (tmp_path / "long.txt").write_text("wasted words")
    async with Swarm(scripted(detour), tmp_path) as swarm:
        result = await (await swarm.start("t")).result()
    lines = swarm.layout.journal.read_bytes().splitlines(keepends=True)
    swarm.layout.journal.write_bytes(b"".join(lines[: 2 + where % (len(lines) - 2)]))
    async with Swarm(scripted(detour), tmp_path, resume=swarm.layout) as resumed:
        again = await resumed.handles()[0].result()
    assert "the key is oats" in again.text
    if "outcome unknown" not in again.text:
        assert again.text.partition("[")[0] == result.text.partition("[")[0]
    assert resumed.statistics().rewinds == 1
    assert snapshot(load(swarm.layout)) == snapshot(resumed.state)


async def test_children_live_through_a_rewind(tmp_path: Path) -> None:
    """Rewinding past the moment children were created leaves them at work; their results reach the new head."""

    def decide(text: str) -> str:
        if "You are copy" in text:
            if (
                "slow" in text.rpartition("Your task: ")[2]
                and "<tool_response>\n2" not in text.rpartition("Your task")[2]
            ):
                return call("calc", expression="1+1")
            return call("finish", result="done " + re.findall(r"Your task: (\w+)", text)[-1])
        if "You are back at t0" in text:
            return call("finish", result="both") if "a2: done" in text and "a3: done" in text else call("wait")
        return [
            call("fork", tasks=["quick", "slow"], wait=False),
            call("wait", until="any"),
            call("rewind", to="t0", report="started two"),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        result = await lead.result()
    assert result.text == "both"
    text = tiny_chat().text(lead.state.head.ids())
    assert text.count("a2: done quick") == 1
    assert text.count("a3: done slow") == 1
    assert "started a2, a3" in text
    assert [a.outcome for a in swarm.state.agents.values()] == [Outcome.FINISHED] * 3


async def test_a_copy_that_goes_back_before_its_birth_is_still_a_copy(tmp_path: Path) -> None:
    """Rewinding past one's own fork keeps identity and task, which the message says again, and lists what the parent
    did in between."""

    def decide(text: str) -> str:
        if "You are still copy 1 of 1. Your task: side" in text:
            return call("finish", result=last_told(text))
        if "You are copy" in text:
            return call("rewind", to="t0", report="fresh look")
        if "a2: " in text:
            return call("finish", result="parent")
        return [call("write_file", path="w.txt", text="w"), call("fork", tasks=["side"])][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        await (await swarm.start("t")).result()
    copy = swarm.state.agents["a2"]
    assert copy.outcome is Outcome.FINISHED
    assert "wrote w.txt" in copy.result
    assert (copy.parent, copy.copy, copy.task) == ("a1", 1, "side")


@pytest.mark.parametrize(
    ("name", "told"), [("t9", "no checkpoint 't9'"), ("x", "no checkpoint"), ("t2", "no checkpoint 't2'")]
)
async def test_only_checkpoints_behind_one_can_be_cited(tmp_path: Path, name: str, told: str) -> None:
    """A checkpoint that does not exist, or comes with the turn that cites it, is refused with the ones there are."""

    def decide(text: str) -> str:
        if "no checkpoint" in text:
            return call("finish", result=last_told(text))
        return call("calc", expression="1") if turns(text) == 0 else call("fork", tasks=["a"], at=name)

    async with Swarm(scripted(decide), tmp_path) as swarm:
        result = await (await swarm.start("t")).result()
    assert told in result.text


async def test_a_parent_that_does_not_wait_hears_of_results_once(tmp_path: Path) -> None:
    """Results of copies that nobody waited for arrive as news with the next message, each exactly once."""

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("finish", result="R" + re.findall(r"Your task: (\w+)", text)[-1])
        if turns(text) == 0:
            return call("fork", tasks=["x", "y"], wait=False)
        return call("finish", result="end") if turns(text) > 6 else call("shell", command="sleep 0.01")

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        await lead.result()
    text = tiny_chat().text(lead.state.head.ids())
    assert text.count("a2: Rx") == 1
    assert text.count("a3: Ry") == 1
    assert set(lead.state.delivered) == {"a2", "a3"}


async def test_waiting_for_any_and_with_a_timeout(tmp_path: Path) -> None:
    """`any` returns with the first result and names who is still at work; a timeout returns what is there."""
    gate = anyio.Event()

    def decide(text: str) -> str:
        if "You are copy" in text:
            slow = "slow" in text.rpartition("Your task: ")[2]
            return call("shell", command="sleep 30") if slow else call("finish", result="fast")
        return [
            call("fork", tasks=["fast", "slow"], wait=False),
            call("wait", until="any"),
            call("wait", agents=["a3"], timeout_s=0.05),
            call("wait", agents=["a9"]),
            call("cancel", agent="a3"),
            call("cancel", agent="a1"),
            call("wait"),
            call("finish", result="end"),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        await lead.result()
    gate.set()
    text = tiny_chat().text(lead.state.head.ids())
    assert "a2: fast\nstill at work: a3" in text
    assert "<tool_response>\nstill at work: a3" in text
    assert "error: a9: no agent that you started" in text
    assert "cancelled: a3" in text
    assert "error: cancel: 'a1' is no agent that you started" in text
    assert swarm.state.agents["a3"].outcome is Outcome.CANCELLED


async def test_cancelling_takes_descendants_along(tmp_path: Path) -> None:
    """A cancelled branch ends with all it started: no request, no reservation and no session is left of it."""

    async def pace(computed: int, sampled: int) -> None:
        await anyio.sleep_forever()

    def decide(text: str) -> str:
        return call("fork", tasks=["deeper", "wider"])

    engine = scripted(decide)
    async with Swarm(engine, tmp_path, budget=Budget(depth=2)) as swarm:
        lead = await swarm.start("t")
        while len(swarm.state.agents) < 7:
            await checkpoint()
        engine._pace = pace
        while engine.running < 4:
            await checkpoint()
        await lead.cancel()
        for handle in swarm.handles():
            assert (await handle.result()).outcome is Outcome.CANCELLED
        while engine.running or engine.tree.sessions:
            await checkpoint()
        assert swarm.state.alive == 0
        assert engine.tree.reserved == 0


async def test_forking_an_agent_that_is_generating(tmp_path: Path) -> None:
    """From outside, at any moment: what was sampled so far is kept, copies branch off there, and the agent goes on
    with the rest of its turn as if nothing had been."""
    release = anyio.Event()
    held = [True]
    generating = anyio.Event()

    async def pace(computed: int, sampled: int) -> None:
        generating.set()
        if held[0]:
            await release.wait()

    def decide(text: str) -> str:
        task = re.findall(r"Your task: (\w+)", text)
        return call("finish", result=task[-1] if task else "the whole answer, to its very end")

    engine = scripted(decide, pace=pace)
    async with Swarm(engine, tmp_path) as swarm:
        lead = await swarm.start("t")
        await generating.wait()
        held[0] = False
        copies = await lead.fork(["north", "south"])
        assert [(await copy.result()).text for copy in copies] == ["north", "south"]
        assert (await lead.result()).text == "the whole answer, to its very end"
    cut = copies[0].state.base.parent
    assert cut is not None
    assert cut.origin is Origin.SAMPLED
    assert lead.state.head.parent is cut
    assert lead.state.turns == 1
    assert lead.state.head.turn == 1
    assert snapshot(load(swarm.layout)) == snapshot(swarm.state)


async def test_rewinding_from_outside(tmp_path: Path) -> None:
    """A person can send a living agent back, whatever it is doing; one that has ended stays ended."""
    release = anyio.Event()

    def decide(text: str) -> str:
        if "look north" in text:
            return call("finish", result="north")
        return [call("calc", expression="1"), call("shell", command="sleep 60")][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        while "shell" not in lead.state.activity:
            await checkpoint()
        await lead.rewind("t0", "look north")
        assert (await lead.result()).text == "north"
        with pytest.raises(ToolRefused, match="has ended"):
            await lead.rewind("t0", "again")
    release.set()


async def test_a_full_context_is_succeeded(tmp_path: Path) -> None:
    """An agent that does nothing about its full context is warned, then goes on in a fresh one that knows where its
    history is; it is the same agent."""
    (tmp_path / "f.txt").write_text("word " * 20)
    warned = []

    def decide(text: str) -> str:
        if "nearly full" in text:
            warned.append(True)
        if "Your context was full" in text:
            read = call("read_file", path=re.findall(r"Your history: (\S+)", text)[-1])
            return call("finish", result="done") if turns(text) else read
        return call("read_file", path="f.txt")

    engine = scripted(decide, context_tokens=3000)
    async with Swarm(engine, tmp_path) as swarm:
        lead = await swarm.start("a task to remember")
        result = await lead.result()
    assert warned
    assert result.outcome is Outcome.FINISHED
    text = tiny_chat().text(lead.state.head.ids())
    assert "a task to remember" in text
    assert "# a1: started" in text
    assert "[cut after" in text
    assert lead.state.successions == 1
    assert snapshot(load(swarm.layout)) == snapshot(swarm.state)


async def test_a_task_too_long_for_its_context_fails(tmp_path: Path) -> None:
    """There is nothing to hand over when the task alone fills the context: the agent fails and says so."""
    engine = scripted(survey, context_tokens=300)
    async with Swarm(engine, tmp_path) as swarm:
        result = await (await swarm.start("x" * 400)).result()
    assert result.outcome is Outcome.FAILED
    assert "does not fit" in result.text


async def test_copies_may_have_less(tmp_path: Path) -> None:
    """A fork can give each copy a budget of its own, which the copy sees and which ends it, not its parent."""

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("calc", expression="1+1")
        return call("finish", result="on") if "a2 out_of_budget" in text else call("fork", tasks=["x"], tokens=200)

    async with Swarm(scripted(decide), tmp_path) as swarm:
        result = await (await swarm.start("t")).result()
    assert result.text == "on"
    assert swarm.state.agents["a2"].outcome is Outcome.OUT_OF_BUDGET
    assert swarm.state.agents["a2"].sampled_tokens <= 200


async def test_a_cold_trunk_is_computed_once(tmp_path: Path) -> None:
    """When a fork's trunk is not in the cache, one copy warms it while its siblings wait."""
    ledgers(tmp_path, [1, 2, 3, 4, 5, 6])
    engine = scripted(survey)
    policy = engine._policy

    def flushing(ids: list[int]) -> list[int]:
        if '"fork"' in tiny_chat().text(policy(ids)):
            engine._forgetful = True  # type: ignore[attr-defined]
        return list(policy(ids))

    engine._policy = flushing
    async with Swarm(engine, tmp_path) as swarm:
        lead = await swarm.start("add up")
        while not swarm.state.forks:
            await checkpoint()
        engine.tree.flush()
        swarm._host.turns._gates[0].residency = type(swarm._host.turns._gates[0].residency)(10**6)
        assert (await lead.result()).text == "21"
    copies = [a for a in swarm.state.agents.values() if a.copy]
    cut = copies[0].base.parent
    assert cut is not None
    computed = sum(a.prompt_tokens - a.cached_tokens for a in copies)
    own = sum(a.head.length - cut.length for a in copies)
    assert computed <= cut.length + own + len(copies)


@pytest.mark.parametrize("seed", range(4))
async def test_more_agents_than_the_pool_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Swarms that want four times the pool finish, and hardly anything is computed twice, whoever is how slow."""
    rng = random.Random(seed)

    def decide(text: str) -> str:
        return call("finish", result="ok") if turns(text) >= 4 else call("calc", expression=f"{turns(text)}+1")

    def dawdling(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def slower(*args: object, **options: object) -> object:
            for _ in range(rng.choice((0, 0, 0, 5, 20, 80))):
                await checkpoint()
            return await method(*args, **options)

        return slower

    engine = scripted(decide, pool_tokens=4000)
    monkeypatch.setattr(engine, "generate", dawdling(engine.generate))
    monkeypatch.setattr(Turns, "take", dawdling(Turns.take))
    async with Swarm(engine, tmp_path, settings=Settings(turn_tokens=100)) as swarm:
        agents = [await swarm.start(f"{n} " * 350) for n in range(16)]
        for agent in agents:
            assert (await agent.result()).text == "ok"
    assert swarm.statistics().recompute_ratio <= 1.15
    assert engine.tree.evicted > 0
    assert engine.tree.sessions == 0


async def test_a_resumed_fork_waits_for_the_same_copies(tmp_path: Path) -> None:
    """After a crash in the middle of a fork no copy is made twice."""
    ledgers(tmp_path, [1, 2, 3])
    async with Swarm(scripted(survey), tmp_path) as swarm:
        await (await swarm.start("add up")).result()
    lines = swarm.layout.journal.read_bytes().splitlines(keepends=True)
    forked = next(n for n, line in enumerate(lines) if b'"forked"' in line)
    swarm.layout.journal.write_bytes(b"".join(lines[: forked + 1]))
    async with Swarm(scripted(survey), tmp_path, resume=RunLayout.open(swarm.layout.root)) as resumed:
        assert (await resumed.handles()[0].result()).text == "6"
    assert len(resumed.state.agents) == 4


@pytest.mark.parametrize("repository", [False, True])
async def test_isolated_copies_merge(tmp_path: Path, repository: bool) -> None:
    """Isolated copies change the same file without seeing each other; what they did is merged, and a conflict leaves
    the parent's file as it is."""
    (tmp_path / "story.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    if repository:
        git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "start"]):
            await anyio.run_process([*git, *arguments])

    def decide(text: str) -> str:
        if "You are copy" in text:
            own = text.rpartition("Your task: ")[2]
            if "replaced story.txt" in own:
                return call("finish", result="done")
            new = {"top": "ONE\ntwo\nthree\nfour\nfive\n", "end": "one\ntwo\nthree\nfour\nFIVE\n"}
            content = new.get(own[:3], "uno\ntwo\nthree\nfour\nfive\n")
            return call("write_file", path="story.txt", text=content)
        return [
            call("fork", tasks=["top", "end", "clash"], isolated=True),
            call("merge", agent="a2"),
            call("merge", agent="a3"),
            call("merge", agent="a4"),
            call("finish", result="merged"),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        assert (await lead.result()).text == "merged"
    assert (tmp_path / "story.txt").read_text() == "ONE\ntwo\nthree\nfour\nFIVE\n"
    text = tiny_chat().text(lead.state.head.ids())
    assert "a2: done\n[1 file changed: modified story.txt; merge(a2) takes that over]" in text
    assert "story.txt:" in text
    assert "uno" in text
    assert "uno" in swarm.layout.patch("a4").read_text()
    assert not swarm.layout.work("a2").exists()


async def test_figures_of_children_need_not_be_copied(tmp_path: Path) -> None:
    """`calc` takes the name of an agent that one started for the number it found; others' names are refused."""

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("finish", result=f"found {len(re.findall(r'Your task: (.*)', text)[-1])} of them")
        return [
            call("fork", tasks=["one", "three"]),
            call("calc", expression="a2 * a3"),
            call("calc", expression="a1"),
            call("finish", result=last_told(text).strip().split("\n")[0]),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        result = await lead.result()
    assert "\n15\n" in tiny_chat().text(lead.state.head.ids())
    assert "'a1' is no agent that you started" in result.text


async def test_a_copy_for_each_line_of_the_last_result(tmp_path: Path) -> None:
    """With lines=true nothing needs to be written out; `results` in calc is the list of what the copies found. Without
    lines, or without a place for them, it is refused."""
    ledgers(tmp_path, [5, 7, 30])

    def decide(text: str) -> str:
        if "You are copy" in text:
            task = re.findall(r"Your task: read (\S+)", text)[-1]
            found = re.findall(r"total: (\d+)", text)
            return call("finish", result=f"{found[-1]} {task}") if found else call("read_file", path=task)
        return [
            call("fork", tasks=["read {line}"], lines=True),
            call("list_files", path="ledgers"),
            call("fork", tasks=["read"], lines=True),
            call("list_files", path="ledgers"),
            call("fork", tasks=["read {line}"], lines=True),
            call("calc", expression="max(results)"),
            call("calc", expression="sum(results) + sum(results > 6)"),
            call("finish", result=answer(text)),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        result = await lead.result()
    assert result.text == "44"
    assert [a.task for a in swarm.state.agents.values()][1:] == [f"read ledgers/l{n}.txt" for n in range(3)]
    text = tiny_chat().text(lead.state.head.ids())
    assert "your last result has no lines" in text
    assert "write {line} in it" in text
    assert "\n30\na4: 30 ledgers/l2.txt\n[" in text  # a maximum tells whose it is
    assert snapshot(load(swarm.layout)) == snapshot(swarm.state)


async def test_names_of_their_own_making(tmp_path: Path) -> None:
    """An agent names itself and those it started; who reads a result or a tree sees it; a stranger cannot be named."""

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("finish", result="7")
        turns = text.count("<|im_start|>assistant") - 1
        return (
            call("introduce", who="lead \n one", description="asks"),
            call("fork", tasks=["count"], wait=False),
            call("introduce", agent="a2", who="counter"),
            call("introduce", agent="a9", who="nobody"),
            call("wait", agents=["a2"]),
            call("finish", result="done"),
        )[turns]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        await lead.result()
    told = tiny_chat().text(lead.state.head.ids())
    assert "a1 is lead one" in told
    assert "a2 (counter): 7" in told
    assert "error: a9: no agent that you started" in told
    (root,) = nested(load(swarm.layout), Times())["agents"]  # type: ignore[misc, attr-defined]
    assert (root["name"], root["description"], root["children"][0]["name"]) == ("lead one", "asks", "counter")
