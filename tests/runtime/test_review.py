"""Work is done when a command passes and somebody else says so. Scripted engine, real commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agents.host import Outcome
from runtime.recorder import load
from runtime.records import Settings
from runtime.swarm import Swarm
from tests.runtime.test_family import turns
from tests.runtime.test_onboarding import told_first
from tests.runtime.test_swarm import snapshot
from tests.support import answer, call, scripted, tiny_chat

pytestmark = pytest.mark.anyio


def author_and_reviewer(text: str) -> str:
    """The first result is wrong; the reviewer reads the file that shows it."""
    if "You review work" in told_first(text):
        if turns(text) == 0:
            return call("read_file", path="figure.txt")
        right = told_first(text).rpartition("The result:\n")[2].startswith(answer(text))
        return call("verdict", verdict="accept") if right else call("verdict", verdict="revise", comments="it is 7")
    if "asks you to revise" in text:
        return call("finish", result=re.findall(r"it is (\d)", text)[-1])
    return f"My thoughts are secret.\n{call('finish', result='6')}"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "figure.txt").write_text("7")
    return tmp_path


REVIEWED = Settings(review=True)


async def test_a_wrong_result_is_sent_back_with_comments(work: Path) -> None:
    """The reviewer sees the task, the result and the files, and no thoughts; its comments answer `finish`, once."""
    async with Swarm(scripted(author_and_reviewer), work, settings=REVIEWED) as swarm:
        lead = await swarm.start("Which figure?")
        result = await lead.result()
    assert (result.outcome, result.text) == (Outcome.FINISHED, "7")
    first, second = (a for a in swarm.state.agents.values() if a.reviews)
    assert (first.accepted, second.accepted) == (False, True)
    assert first.base.parent is None
    shown = tiny_chat().text(first.base.tokens)
    assert "secret" in tiny_chat().text(lead.state.head.ids())
    assert "secret" not in shown
    assert "Which figure?" in shown
    assert swarm.layout.relative(swarm.layout.task) in shown
    told = tiny_chat().text(lead.state.head.ids())
    assert told.count("it is 7") == 1
    assert snapshot(load(swarm.layout)) == snapshot(swarm.state)


async def test_rounds_end(work: Path) -> None:
    """After the allowed rounds the outcome is rejected, and the last result is kept."""
    async with Swarm(scripted(stubborn), work, settings=Settings(review=True, review_rounds=2)) as swarm:
        result = await (await swarm.start("t")).result()
    assert (result.outcome, result.text) == (Outcome.REJECTED, "6")
    assert sum(a.reviews for a in swarm.state.agents.values()) == 2
    assert swarm.state.outcome is Outcome.REJECTED


async def test_a_command_decides_first(work: Path) -> None:
    """Its output is shown to the author; the reviewer is asked only once it passes."""

    def decide(text: str) -> str:
        if "You review work" in told_first(text):
            return call("verdict", verdict="accept")
        if turns(text) == 0:
            return call("finish", result="done")
        return [call("write_file", path="made.txt", text="m"), call("finish", result="done")][turns(text) - 1]

    settings = Settings(check="echo looking; test -f made.txt", review=True)
    async with Swarm(scripted(decide), work, settings=settings) as swarm:
        lead = await swarm.start("t")
        result = await lead.result()
    assert result.outcome is Outcome.FINISHED
    text = tiny_chat().text(lead.state.head.ids())
    assert "failed (exit code 1):\nlooking" in text
    assert [a.reviews for a in swarm.state.agents.values()] == [False, True]


async def test_only_reviewers_judge_and_only_roots_are_judged(work: Path) -> None:
    """`verdict` is refused to others, `finish` to reviewers; a copy's result is for its parent to judge."""

    def decide(text: str) -> str:
        if "You review work" in told_first(text):
            return [call("finish", result="fine"), call("verdict", verdict="accept")][turns(text)]
        if "You are copy" in text:
            return call("finish", result="c")
        return [call("verdict", verdict="accept"), call("fork", tasks=["x"]), call("finish", result="d")][turns(text)]

    async with Swarm(scripted(decide), work, settings=REVIEWED) as swarm:
        lead = await swarm.start("t")
        await lead.result()
    texts = {name: tiny_chat().text(agent.head.ids()) for name, agent in swarm.state.agents.items()}
    assert "verdict is for reviewers" in texts["a1"]
    assert "you are a reviewer" in texts["a3"]
    assert [a.reviews for a in swarm.state.agents.values()] == [False, False, True]


def stubborn(text: str) -> str:
    """An author that learns nothing from a review."""
    return author_and_reviewer(text) if "You review work" in told_first(text) else call("finish", result="6")


@pytest.mark.parametrize("rounds", [0, 1, 2])
async def test_the_reason_of_a_rejection_stands_in_the_history(work: Path, rounds: int) -> None:
    """Each reason stands there once: what the author was told, and at the end what it was not, with the limit."""
    settings = Settings(review=True, review_rounds=rounds)
    async with Swarm(scripted(stubborn), work, settings=settings) as swarm:
        await (await swarm.start("t")).result()
    history = swarm.layout.history("a1").read_text()
    before, _, last = history.partition("## a1 is rejected\n\n")
    times = {0: "once", 1: "once", 2: "2 times"}[rounds]
    reviewer = f"a{max(rounds, 1) + 1}"
    assert last == (
        f"Its result was refused {times}, which is the most (--review-rounds). The last reason:\n"
        f"{reviewer} reviewed this and asks you to revise it:\nit is 7\n"
    )
    assert before.count("it is 7") == max(rounds, 1) - 1


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("left_out", range(1, 12))
async def test_a_rejection_is_written_down_once_whatever_a_crash_cuts(work: Path, left_out: int, written: bool) -> None:
    """Resumed from any record, the history is the one of a run that nothing stopped.

    The process may have died before (`written` false) or after its last record became readable.
    """
    histories: list[bytes] = []

    def look(record: object) -> None:  # observers come after the readable files
        path = work / ".ramet" / swarm.layout.run / "agents/a1/history.md"
        histories.append(path.read_bytes() if path.exists() else b"")

    settings = Settings(review=True, review_rounds=2)
    async with Swarm(scripted(stubborn), work, settings=settings, observers=[look]) as swarm:
        await (await swarm.start("t")).result()
    history = swarm.layout.history("a1")
    whole = history.read_bytes()
    lines = swarm.layout.journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(histories)
    swarm.layout.journal.write_bytes(b"".join(lines[:-left_out]))
    history.write_bytes(histories[-left_out - (1 if written else 2)])
    async with Swarm(scripted(stubborn), work, resume=swarm.layout) as resumed:
        result = await resumed.handles()[0].result()
    assert (result.outcome, result.text) == (Outcome.REJECTED, "6")
    assert history.read_bytes() == whole


@pytest.mark.parametrize("cut", range(2, 24, 2))
async def test_a_review_survives_a_crash_at_any_record(work: Path, cut: int) -> None:
    """Resumed after any record: no round is counted twice, nobody is asked again who has judged."""
    async with Swarm(scripted(author_and_reviewer), work, settings=REVIEWED) as swarm:
        await (await swarm.start("t")).result()
    lines = swarm.layout.journal.read_bytes().splitlines(keepends=True)
    swarm.layout.journal.write_bytes(b"".join(lines[: min(cut, len(lines) - 1)]))
    async with Swarm(scripted(author_and_reviewer), work, resume=swarm.layout) as resumed:
        result = await resumed.handles()[0].result()
    assert result.text == "7"
    assert len(resumed.state.agents) == 3
    assert len(resumed.state.agents["a1"].returned) == 1
    assert snapshot(load(swarm.layout)) == snapshot(resumed.state)


async def test_a_review_that_comes_to_nothing_is_no_acceptance(work: Path) -> None:
    """A reviewer that is cancelled has accepted nothing: the author is told, and may finish again."""
    swarm: Swarm

    def decide(text: str) -> str:
        if "You review work" in told_first(text):
            if len(swarm.state.agents) == 2:
                swarm._host.family.end(swarm.state.agents["a2"], Outcome.CANCELLED, "gone")
                return call("calc", expression="1")
            return call("verdict", verdict="accept")
        return call("finish", result="r")

    async with Swarm(scripted(decide), work, settings=REVIEWED) as swarm:
        lead = await swarm.start("t")
        result = await lead.result()
    assert result.outcome is Outcome.FINISHED
    assert "came to nothing (cancelled: gone)" in tiny_chat().text(lead.state.head.ids())
