"""From runs to rollouts."""

from __future__ import annotations

import random
import re
import tempfile
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.context import Origin
from runtime.budget import Budget
from runtime.recorder import records
from runtime.records import Settings
from runtime.rollouts.schema import Rollout, read_rollouts, verify, write_rollout
from runtime.rollouts.trace import Trace, replay, rollouts_of
from runtime.state import RunState
from runtime.swarm import Swarm
from tests.support import call, ledgers, scripted, survey, tiny_chat

pytestmark = pytest.mark.anyio


def wanderer(seed: int):  # type: ignore[no-untyped-def]
    """A policy that does anything at all, decided by the seed and by what it has seen."""

    def decide(text: str) -> str:
        chances = random.Random(f"{seed} {text}")
        turn = int((re.findall(r" t(\d+) \|", text) or ["0"])[-1])
        back = f"t{chances.randrange(max(turn, 1))}"
        if "You are new. Ask" in text and "Begun" not in text and "You are copy" not in text:
            ask = call("ask", questions=["what?"])
            return chances.choice([ask, call("begin", understanding="so")])
        tasks = [f"part {n} of {chances.randrange(99)}" for n in range(chances.randint(1, 3))]
        return chances.choice(
            [
                call("calc", expression=f"{chances.randrange(99)}+1"),
                call("fork", tasks=tasks),
                call("fork", tasks=tasks, wait=False),
                call("fork", tasks=tasks, at=back),
                call("spawn", tasks=tasks, interview=False),
                call("spawn", tasks=tasks, brief="a brief"),
                call("rewind", to=back, report=f"seen {chances.randrange(99)}"),
                "words and no call",
                call("finish", result=str(chances.randrange(99))),
                call("finish", result=str(chances.randrange(99))),
            ]
        )

    return decide


async def wander(seed: int, directory: Path) -> tuple[RunState, Trace, Swarm]:
    """A run of two roots, and the trace that was taken of it while it lasted."""
    trace = Trace()
    budget = Budget(turns=40, agents=12, depth=3)
    engine = scripted(wanderer(seed), context_tokens=2048)  # small enough for successions
    async with Swarm(engine, directory, budget=budget, observers=[trace.observe]) as swarm:
        first, second = await swarm.start("one"), await swarm.start("two")
        await first.result()
        await second.result()
    return swarm.state, trace, swarm


@given(seed=st.integers(0, 1_000_000), backend=st.sampled_from(["asyncio", "trio"]))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_trace_is_the_run(seed: int, backend: str) -> None:
    """Whatever a swarm does: each leaf's context is its agent's, or a path that it left; every sampled token is in
    exactly one edge, with its log-probability; nothing is wrong with the rollouts, and files give them back."""
    with tempfile.TemporaryDirectory() as made:
        state, trace, swarm = anyio.run(wander, seed, Path(made), backend=backend)
        rollouts = rollouts_of(state, trace)
        assert [rollout.head.id for rollout in rollouts] == [f"{state.run}/a1", f"{state.run}/a2"]
        assert rollouts == rollouts_of(*replay(records(swarm.layout)))
        path = Path(made) / "rollouts.jsonl"
        with path.open("wb") as file:
            for rollout in rollouts:
                write_rollout(file, rollout)
        assert list(read_rollouts(path)) == rollouts
    left = [(agent, state.segments[head].ids()) for agent, head in trace.left]
    for rollout in rollouts:
        assert verify(rollout) == []
        assert [edge.id for edge in rollout.edges] == list(range(len(rollout.edges)))
        for leaf in rollout.head.leaves:
            if leaf.abandoned:
                left.remove((leaf.agent, rollout.context(leaf.edge)))
            else:
                assert rollout.context(leaf.edge) == state.agents[leaf.agent].head.ids()
        for edge in rollout.edges:
            spans = [(turn.start, turn.end) for turn in edge.turns]
            assert all(a[1] < b[0] for a, b in pairwise(spans))
            mine = [any(start <= n < end for start, end in spans) for n in range(len(edge.tokens))]
            assert mine == list(edge.sampled)
            assert sum(v.end - v.start for v in edge.versions) == sum(edge.sampled)
            assert all((lp is None) is not was for lp, was in zip(edge.logprobs, edge.sampled, strict=True))
    assert left == []
    assert sorted(m.id for r in rollouts for m in r.head.members) == sorted(state.agents)
    in_edges = sorted(t for r in rollouts for e in r.edges for t, mine in zip(e.tokens, e.sampled, strict=True) if mine)
    said = sorted(t for s in state.segments.values() if s.origin is Origin.SAMPLED for t in s.tokens)
    assert in_edges == said


async def test_a_fork_is_cut_after_the_decision(tmp_path: Path) -> None:
    """A survey is the trunk, its copies, and the trunk that goes on; each copy's edge names the span that made it."""
    ledgers(tmp_path, [1, 2])
    (rollout,) = await traced(survey, tmp_path)
    trunk, *copies, rest = rollout.edges
    assert [(edge.kind, edge.agent, edge.parent) for edge in rollout.edges] == [
        ("root", "a1", None),
        ("fork", "a2", 0),
        ("fork", "a3", 0),
        ("continued", "a1", 0),
    ]
    for copy in copies:
        assert copy.decision == (trunk.turns[-1].start, len(trunk.tokens))
        assert copy.decided is None
    assert "fork" in tiny_chat().text(trunk.tokens[slice(*copies[0].decision or ())])
    assert rest.decision is None
    assert [(leaf.edge, leaf.agent) for leaf in rollout.head.leaves] == [(3, "a1"), (1, "a2"), (2, "a3")]
    assert [(m.kind, m.result) for m in rollout.head.members][1:] == [
        ("fork", "1 ledgers/l0.txt"),
        ("fork", "2 ledgers/l1.txt"),
    ]
    assert (rollout.head.prompt, rollout.head.result, rollout.head.outcome) == ("add up", "3", "finished")


async def test_a_rewind_leaves_a_path_behind(tmp_path: Path) -> None:
    """The path that was left is a leaf of its agent, abandoned; the new edge says which turn decided to go back."""

    def decide(text: str) -> str:
        if "by rewinding" in text:
            return call("finish", result="wiser")
        return call("rewind", to="t0", report="nothing there") if "<tool_response>" in text else call("list_files")

    (rollout,) = await traced(decide, tmp_path)
    # The first context is cut at the checkpoint, because that is where the two paths part.
    assert [(edge.kind, edge.parent) for edge in rollout.edges] == [("root", None), ("continued", 0), ("rewind", 0)]
    left, new = rollout.edges[1:]
    assert new.decision is None
    assert new.decided == (1, left.turns[-1].start, left.turns[-1].end)
    assert [(leaf.edge, leaf.abandoned) for leaf in rollout.head.leaves] == [(2, False), (1, True)]


async def test_a_newcomer_and_its_hosts(tmp_path: Path) -> None:
    """A spawn has a context of its own, whose edge names the turn that asked for it; hosts branch off from there."""

    def decide(text: str) -> str:
        if "copy that answers" in text:
            return call("finish", result="because")
        if "You are new" in text:
            if "Begun" in text:
                return call("finish", result="done")
            return call("begin", understanding="yes") if "because" in text else call("ask", questions=["why?"])
        return call("finish", result="all") if "<tool_response>" in text else call("spawn", tasks=["x"], brief="B")

    (rollout,) = await traced(decide, tmp_path, words=True)
    kinds = {edge.agent: edge for edge in rollout.edges if edge.kind != "continued"}
    assert {agent: edge.kind for agent, edge in kinds.items()} == {"a1": "root", "a2": "spawn", "a3": "host"}
    root, newcomer, host = kinds["a1"], kinds["a2"], kinds["a3"]
    assert (newcomer.parent, host.parent) == (None, root.id)
    assert newcomer.decided == (root.id, root.turns[-1].start, root.turns[-1].end)
    assert host.decided == (newcomer.id, newcomer.turns[0].start, newcomer.turns[0].end)
    members = {member.id: member for member in rollout.head.members}
    assert "B" in members["a2"].spec
    assert members["a3"].spec == ""


async def test_an_interrupted_turn_is_one_turn(tmp_path: Path) -> None:
    """A turn that was aborted for a fork from outside and went on: its pieces are in two edges, cut where the copies
    branch off, and together they are what was sampled."""
    hold, asked = anyio.Event(), anyio.Event()

    async def pace(computed: int, sampled: int) -> None:
        asked.set()
        await hold.wait()

    trace = Trace()
    engine = scripted(lambda _: call("finish", result="a long result"), pace=pace)
    async with Swarm(engine, tmp_path, observers=[trace.observe]) as swarm:
        lead = await swarm.start("t")
        await asked.wait()
        while not engine.running:
            await checkpoint()
        (copy,) = await lead.fork(["other"])
        hold.set()
        await lead.result()
        await copy.result()
    (rollout,) = rollouts_of(swarm.state, trace)
    trunk = rollout.edges[0]
    rest = next(edge for edge in rollout.edges if edge.kind == "continued")
    assert [turn.finish for turn in trunk.turns] == ["abort"]
    assert [turn.finish for turn in rest.turns] == ["stop"]
    assert all(rest.sampled)
    assert verify(rollout) == []


async def traced(decide, directory: Path, *, words: bool = False) -> list[Rollout]:  # type: ignore[no-untyped-def]
    """The rollouts of one run."""
    trace = Trace()
    async with Swarm(scripted(decide), directory, settings=Settings(), observers=[trace.observe]) as swarm:
        await (await swarm.start("add up")).result()
    return rollouts_of(swarm.state, trace, words=tiny_chat().text if words else None)
