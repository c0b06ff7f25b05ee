"""Attempts that go on from the middle of another: replays of decisions, and dead groups that are revived."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from random import Random

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from agents.tools import TOOLS, schema
from runtime.budget import Budget
from runtime.engine.scripted import ScriptedEngine
from runtime.records import Settings
from runtime.rollouts.collect import GIVEN_BACK, ORDER, collect
from runtime.rollouts.credit import decision, segment
from runtime.rollouts.groups import Level, examine
from runtime.rollouts.midway import Left, chances, decisions, midway, replays, revivals
from runtime.rollouts.replay import Replay, refusing
from runtime.rollouts.reward import Function, Own
from runtime.rollouts.schema import Rollout, Versions, verify
from runtime.rollouts.summary import Summary
from runtime.rollouts.tasks import Midway, Task
from tests.runtime.rollouts.test_collect import everything, ledgers
from tests.runtime.rollouts.test_trace import wanderer
from tests.support import call, scripted, survey, tiny_chat

pytestmark = pytest.mark.anyio
HOT = Settings(temperature=1.0)
REFUSED = "nobody else can be started"


class Telling(ScriptedEngine):
    """An engine whose log-probabilities and weights are told apart: no two turns have the same."""

    def __init__(self, decide) -> None:  # type: ignore[no-untyped-def]
        inner = scripted(decide)
        super().__init__(inner._policy, model=inner._capacity.model)
        self._turns = count()

    async def generate(self, context, sampling, *, session):  # type: ignore[no-untyped-def]
        reply = await super().generate(context, sampling, session=session)
        turn = next(self._turns)
        logprobs = tuple(-(turn + n / 1024) for n in range(len(reply.tokens)))
        return structs.replace(reply, logprobs=logprobs, weight_version=f"v{turn}")


def alone(text: str, *, able: bool) -> str:
    """The survey; refused its copies, the lead says what it can, which is right where it is able. Where it is, it
    makes nothing of what its copies tell it."""
    if REFUSED in text:
        return call("finish", result="3" if able else "0")
    said = survey(text)
    return call("finish", result="0") if able and "calc" in said else said


async def attempted(tasks: Sequence[Task], group: int, engine: ScriptedEngine, **options: object) -> list[Rollout]:
    async with collect(tasks, group=group, engine=engine, settings=HOT, **options) as collected:  # type: ignore[arg-type]
        return await everything(collected)


@pytest.mark.parametrize("able", [False, True])
async def test_a_decision_is_worth_what_it_gained(able: bool) -> None:
    """Replays go on from the fork, refused. Where forking helped, its tokens get positive credit, where it hurt
    negative; nothing else gets any. What was given back is what was recorded, bit for bit, whatever sampled since."""
    task, engine = ledgers("t", 1, 2), Telling(partial(alone, able=able))
    group = await attempted([task], 2, engine)
    tasks, left = replays({"t": task}, group, 3)
    again = await attempted(tasks, 3, engine)
    assert left == []
    assert [one.head.attempt for one in [*group, *again]] == list(range(8))
    assert [one.head.error for one in again] == [""] * 6
    assert [verify(one) for one in again] == [[]] * 6
    for number, one in enumerate(again):
        trunk, replayed = group[number // 3].edges[0], one.edges[0]
        assert len(one.head.members) == 1
        assert REFUSED in tiny_chat().text(replayed.tokens[len(trunk.tokens) :])
        for field in ("tokens", "sampled", "logprobs"):
            assert getattr(replayed, field)[: len(trunk.tokens)] == getattr(trunk, field)
        assert replayed.versions[: len(trunk.versions)] == trunk.versions
        assert replayed.turns[: len(trunk.turns)] == tuple(structs.replace(turn, seconds=0.0) for turn in trunk.turns)
        assert one.head.info[GIVEN_BACK] == str(sum(trunk.sampled))
    credits = decision([*group, *again])
    for rollout, credit in zip(group, credits, strict=False):
        (span,) = credit.spans
        assert [(span.edge, span.start, span.end)] == decisions(rollout)
        assert span.coefficient == (-1.0 if able else 1.0)
    assert all(value == 0 for credit in credits[:2] for value in credit.edges.values())
    assert [credit.spans for credit in credits[2:]] == [()] * 6
    assert engine.running == engine.tree.sessions == engine.tree.reserved == 0


async def test_what_was_given_back_is_not_computed_turn_by_turn() -> None:
    """It is prefilled once; the first turn that is sampled finds all of it cached."""
    task, engine = ledgers("t", 1, 2), scripted(partial(alone, able=False))
    (one,) = await attempted([task], 1, engine)
    (again,), _ = replays({"t": task}, [one], 1)
    fresh = scripted(partial(alone, able=False))
    (replay,) = await attempted([again], 1, fresh)
    turn = replay.edges[0].turns[len(one.edges[0].turns)]
    assert turn.cached == len(one.edges[0].tokens)


async def test_weights_that_changed_within_a_turn() -> None:
    """A turn that was interrupted for an update is given back in its pieces, each with its own weights."""
    task, engine = ledgers("t", 1, 2), Telling(partial(alone, able=False))
    (one,) = await attempted([task], 1, engine)
    trunk = one.edges[0]
    turn = trunk.turns[1]
    middle = turn.start + 5
    first, second, *others = trunk.versions
    split = (first, structs.replace(second, end=middle), Versions(start=middle, end=turn.end, version="new"), *others)
    one = structs.replace(one, edges=(structs.replace(trunk, versions=split), *one.edges[1:]))
    (again,), _ = replays({"t": task}, [one], 1)
    (replay,) = await attempted([again], 1, engine)
    assert replay.head.error == ""
    assert replay.edges[0].tokens[: len(trunk.tokens)] == trunk.tokens
    assert replay.edges[0].versions[: len(split)] == split
    assert [(t.start, t.end, t.finish) for t in replay.edges[0].turns][:2] == [
        (t.start, t.end, t.finish) for t in trunk.turns[:2]
    ]


async def test_a_replay_that_reads_something_else() -> None:
    """Is a rollout with an error that says what differs, and no attempt that credit counts."""
    task, engine = ledgers("t", 1, 2), scripted(partial(alone, able=False))
    group = await attempted([task], 2, engine)
    (again, _), _ = replays({"t": task}, group, 1)
    changed = structs.replace(again, files={"ledgers/other.txt": "total: 1\n"})
    hurried = structs.replace(again, settings={"budget": Budget(seconds=1e-9)})
    other, late = await attempted([changed, structs.replace(hurried, id="late")], 1, engine)
    assert f"{group[0].head.id} cannot be replayed: token" in other.head.error
    assert "l0.txt" in other.head.error
    assert "other.txt" in other.head.error
    assert other.head.terms == ()
    assert late.head.error == "it ended (out_of_budget) before the turn from which it was to go on"
    assert decision([*group, other])[0].spans == ()


async def test_the_tools_that_refuse_look_the_same() -> None:
    """A model is shown what it was shown, whether it will be refused or not."""
    after = Midway(rollout="r", tokens=(), pieces=())
    tools = refusing(TOOLS, Replay(scripted(survey), after, str))
    assert [schema(tool) for tool in tools.values()] == [schema(tool) for tool in TOOLS.values()]
    assert [name for name in tools if tools[name] is not TOOLS[name]] == ["fork", "spawn"]


async def test_points_that_cannot_be_gone_on_from() -> None:
    """Of a descendant, after others were at work, after a rewind, in a sequence: each is named, with the reason."""

    def decide(text: str) -> str:
        _, copy, own = text.rpartition("Your task: ")
        if copy:
            deeper = own.startswith("first") and "a3: " not in own
            return call("fork", tasks=["deeper"]) if deeper else call("finish", result="seen")
        if "by rewinding" in text:
            return call("finish", result="all") if "a5: " in text else call("fork", tasks=["third"])
        if "a4: " in text:
            return call("rewind", to="t0", report="r")
        return call("fork", tasks=["second" if "a2: " in text else "first"])

    task = Task(id="t", prompt="p")
    (one,) = await attempted([task], 1, scripted(decide))
    made, left = replays({"t": task}, [one], 2)
    reasons = [item.why for item in left]
    assert [task.info["replays_decision"] for task in made] == ["1:0"]  # the prompt is an edge: it was gone back to
    assert len(made) + len(left) == len(decisions(one)) == 4
    assert sorted(reasons) == [
        "a2 was at work before, and only the root's turns are given back",
        "it comes after a rewind",
        "it is a turn of a2, and only the root's turns are given back",
    ]
    ordered = structs.replace(one, head=structs.replace(one.head, info={ORDER: "given"}))
    assert [item.why for item in replays({"t": task}, [ordered], 1)[1]] == [
        "the attempt began in files that earlier tasks had left"
    ] * len(decisions(one))
    with pytest.raises(ValueError, match="sequence"):
        async with collect(made, group=1, engine=scripted(decide), sequential=True):
            pass


@given(seed=st.integers(0, 1_000_000), backend=st.sampled_from(["asyncio", "trio"]))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_a_swarm_did(seed: int, backend: str) -> None:
    """Every decision is replayed or named; a replay goes on from exactly what was recorded, or has an error."""

    async def both() -> None:
        task = Task(id="t", prompt="one", settings={"budget": Budget(turns=30, agents=8, depth=2)})
        engine = scripted(wanderer(seed), context_tokens=2048)
        group = await attempted([task], 2, engine)
        tasks, left = replays({"t": task}, group, 1)
        taking = [one for one in group if not one.head.error]
        assert len(tasks) + len(left) == sum(len(decisions(one)) for one in taking)
        for again, one in zip(tasks, await attempted(tasks, 1, engine) if tasks else [], strict=True):
            assert again.after is not None
            assert verify(one) == []
            if not one.head.error:
                stop = len(again.after.tokens)
                assert any(tuple(one.context(edge.id)[:stop]) == again.after.tokens for edge in one.edges)

    anyio.run(both, backend=backend)


# -- dead groups ---------------------------------------------------------------------------------------------


class Lucky:
    """A lead that forks two copies, one of which has luck; once `luck` is given, it decides for each copy."""

    def __init__(self) -> None:
        self.luck: Random | None = None

    def __call__(self, text: str) -> str:
        if "You are copy" in text:
            won = self.luck.random() < 0.5 if self.luck is not None else "You are copy 1" in text
            return call("finish", result="won" if won else "lost")
        return call("finish", result="all") if "a2: " in text else call("fork", tasks=["left", "right"])


def won(*kinds: str) -> Own:
    return Own("won", lambda member, _: float(member.result == "won") if member.kind in kinds else None)


async def test_a_dead_group_is_revived() -> None:
    """All attempts came to the same, and half of the copies succeeded: attempts that go on from there differ, in a
    group of their own, where what they have in common gets no credit in sum."""
    policy = Lucky()
    engine, task = Telling(policy), Task(id="t", prompt="p", rewards=(won("fork"),))
    group = await attempted([task], 3, engine)
    assert any(dead.level is Level.TASK for dead in examine(group).dead)
    (chance,), left = chances({"t": task}, group)
    assert left == []
    after = sum(sum(edge.sampled) for edge in group[0].edges[1:])
    assert chance.point.tokens == after
    tasks, left = revivals([chance], budget_tokens=6 * after, copies=6)
    assert left == []
    policy.luck = Random(1)
    revived = await attempted(tasks, 6, engine, sampled_tokens=6 * after)
    assert [one.head.error for one in revived] == [""] * 6
    assert {one.head.group for one in revived} == {f"t@{chance.point.rollout}:{chance.point.edge}"}
    trunk = next(one for one in group if one.head.id == chance.point.rollout).edges[0]
    for one in revived:
        assert len(one.head.members) == 3
        assert (one.edges[0].tokens, one.edges[0].logprobs) == (trunk.tokens, trunk.logprobs)
    report = examine(revived)
    assert len(set(report.values)) > 1
    assert all(dead.level is not Level.TASK for dead in report.dead)
    assert sum(credit.edges[0] for credit in segment(revived)) == pytest.approx(0.0, abs=1e-12)
    summary = Summary()
    for one in [*group, *revived]:
        summary.add(one)
    figures = summary.figures()
    assert figures["dead_groups"] == ["t"]
    assert figures["revived"] == {
        "values": {one.head.info["revives"]: list(report.values)},
        "still_dead": [],
        "attempts": 6,
        "unscored": 0,
        "left": {},
    }
    given_back = 6 * sum(trunk.sampled)
    assert (
        figures["sampled_tokens"] == sum(sum(e.sampled) for one in [*group, *revived] for e in one.edges) - given_back
    )


async def test_a_live_group_needs_no_revival_and_some_dead_ones_have_no_chance() -> None:
    """The one is left alone; the other is named."""
    engine = scripted(Lucky())
    task = Task(id="t", prompt="p", rewards=(won("fork"),))
    hopeless = Task(id="h", prompt="p", rewards=(Function("none", lambda rollout, _: 0.0),))
    alive = Task(id="l", prompt="p", rewards=(won("fork"), Function("n", lambda rollout, _: rollout.head.attempt)))
    everyone = {one.id: one for one in (task, hopeless, alive)}
    groups = {name: await attempted([one], 2, engine) for name, one in everyone.items()}
    assert chances(everyone, groups["l"]) == ([], [])
    found, left = chances(everyone, groups["h"])
    assert (found, left) == ([], [Left(point="h", why="there is no point after which only some succeeded")])
    (chance,), _ = chances(everyone, groups["t"])
    tasks, left = revivals([chance], budget_tokens=3 * chance.point.tokens - 1, copies=3)
    assert tasks == []
    assert left[0].point == f"{chance.point.rollout}:{chance.point.edge}"
    assert "more than the budget has" in left[0].why


async def test_a_budget_of_sampled_tokens_holds() -> None:
    """Once it is used up no turn begins; what had to stop is data, with the reason, and what was given back is free."""
    policy = Lucky()
    engine, task = scripted(policy), Task(id="t", prompt="p", rewards=(won("fork"),))
    group = await attempted([task], 2, engine)
    (chance,), _ = chances({"t": task}, group)
    (again,), _ = revivals([chance], budget_tokens=10**6, copies=4)
    most = 2 * chance.point.tokens
    ended = await attempted([again], 4, engine, sampled_tokens=most, at_once=1)
    assert ["budget of" in one.head.error for one in ended] == [False, False, True, True]
    new = sum(sum(e.sampled) for one in ended for e in one.edges) - sum(int(one.head.info[GIVEN_BACK]) for one in ended)
    assert most <= new <= most + chance.point.tokens


async def test_a_point_at_the_very_start() -> None:
    """A midway without turns gives nothing back, and is over at once."""
    task, engine = ledgers("t", 1, 2), scripted(survey)
    (one,) = await attempted([task], 1, engine)
    start = midway(one, 0, one.edges[0].turns[0].start)
    assert start.pieces == ()
    (again,) = await attempted([structs.replace(task, after=start)], 1, engine)
    assert (again.head.error, again.head.result, again.head.info[GIVEN_BACK]) == ("", "3", "0")
