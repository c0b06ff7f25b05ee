"""Who was told what: `Edge.told`, from the records."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.recorder import records
from runtime.records import Settings
from runtime.rollouts.schema import Edge, Rollout, Told, verify
from runtime.rollouts.trace import Trace, replay, rollouts_of
from runtime.swarm import Swarm
from tests.support import call, ledgers, scripted, survey, tiny_chat

pytestmark = pytest.mark.anyio


async def run(directory: Path, decide: Callable[[str], str], **settings: object) -> Rollout:
    """One run, whose rollout is the same from its journal."""
    trace = Trace()
    made = Settings(**settings)  # type: ignore[arg-type]
    async with Swarm(scripted(decide), directory, settings=made, observers=[trace.observe]) as swarm:
        await (await swarm.start("add up")).result()
    (rollout,) = rollouts_of(swarm.state, trace)
    assert rollouts_of(*replay(records(swarm.layout))) == [rollout]
    assert verify(rollout) == []
    return rollout


def given_at(edge: Edge, told: Told) -> str:
    """The given tokens that begin where something was told."""
    stop = next((n for n in range(told.at, len(edge.tokens)) if edge.sampled[n]), len(edge.tokens))
    return tiny_chat().text(edge.tokens[told.at : stop])


async def test_results_of_copies(tmp_path: Path) -> None:
    """The given tokens that hold them name the copies, and nothing else does."""
    ledgers(tmp_path, [1, 2])
    rollout = await run(tmp_path, survey)
    *others, rest = rollout.edges
    assert [edge.told for edge in others] == [()] * 3
    assert rest.told == (Told(at=0, agent="a2"), Told(at=0, agent="a3"))
    assert "a2: 1 ledgers/l0.txt" in given_at(rest, rest.told[0])


async def test_news_of_those_nobody_waited_for(tmp_path: Path) -> None:
    """What came as news is told where it stands; a result that lies further on in an edge, further on."""

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("finish", result="seen")
        if "a2: seen" in text:
            return call("finish", result="all")
        return call("wait", until="all") if "started a2" in text else call("fork", tasks=["look"], wait=False)

    rollout = await run(tmp_path, decide)
    (told,) = (one for edge in rollout.edges for one in edge.told)
    edge = next(edge for edge in rollout.edges if edge.told)
    assert (edge.agent, told.agent) == ("a1", "a2")
    assert "a2: seen" in given_at(edge, told)


async def test_letters(tmp_path: Path) -> None:
    """Of a letter it is said whose it is, and which turn wrote it."""

    def decide(text: str) -> str:
        mail = re.findall(r"Mail \S+ from a2: blue", text)
        if "You are new" in text:
            return (
                call("finish", result="told") if "sent to" in text else call("send", to=["a1"], subject="blue", body="")
            )
        if mail:
            return call("finish", result="all")
        return (
            call("wait", until="mail") if "started" in text else call("spawn", tasks=["x"], interview=False, wait=False)
        )

    rollout = await run(tmp_path, decide)
    letters = [(edge, told) for edge in rollout.edges for told in edge.told if told.sent is not None]
    ((edge, told),) = letters
    assert (edge.agent, told.agent) == ("a1", "a2")
    assert "from a2: blue" in given_at(edge, told)
    newcomer = next(edge for edge in rollout.edges if edge.agent == "a2")
    assert told.sent == (newcomer.id, newcomer.turns[0].end)


async def test_an_answer_of_a_host_and_the_copies_of_a_newcomer(tmp_path: Path) -> None:
    """A newcomer is told its host's answer; who started it is told the results of the copies that it became."""

    def decide(text: str) -> str:
        if "copy that answers" in text:
            return call("finish", result="because")
        if "You are copy" in text:
            return call("finish", result="done")
        if "You are new" in text:
            return call("begin", understanding="yes") if "because" in text else call("ask", questions=["why?"])
        return call("finish", result="all") if "<tool_response>" in text else call("spawn", tasks=["x", "y"], brief="B")

    rollout = await run(tmp_path, decide)
    told = {(edge.agent, one.agent) for edge in rollout.edges for one in edge.told}
    assert [member.kind for member in rollout.head.members] == ["root", "spawn", "host", "fork", "fork"]
    assert told == {("a2", "a3"), ("a1", "a2"), ("a1", "a4"), ("a1", "a5")}


@pytest.mark.parametrize("accepts", [True, False])
async def test_what_a_reviewer_says(tmp_path: Path, accepts: bool) -> None:
    """An objection is told to the author; who accepts tells it nothing."""

    def decide(text: str) -> str:
        if "You review work" in text:
            verdict = "accept" if accepts or "second" in text else "revise"
            return call("verdict", verdict=verdict, comments="again")
        return call("finish", result="second" if "asks you to revise" in text else "first")

    rollout = await run(tmp_path, decide, review=True)
    told = [(edge.agent, one.agent, given_at(edge, one)) for edge in rollout.edges for one in edge.told]
    assert [one[:2] for one in told] == ([] if accepts else [("a1", "a2")])
    assert all("a2 reviewed this" in text for *_, text in told)


async def test_a_report_holds_the_results_since(tmp_path: Path) -> None:
    """Whoever rewinds is told again what came of those it had started since."""

    def decide(text: str) -> str:
        if "by rewinding" in text:
            return call("finish", result="wiser")
        if "You are copy" in text:
            return call("finish", result="seen")
        return call("rewind", to="t0", report="r") if "a2: seen" in text else call("fork", tasks=["look"])

    rollout = await run(tmp_path, decide)
    assert [(edge.kind, edge.told) for edge in rollout.edges if edge.told] == [
        ("continued", (Told(at=0, agent="a2"),)),
        ("rewind", (Told(at=0, agent="a2"),)),
    ]
