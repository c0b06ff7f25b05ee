"""Agents write to each other and to people; each letter is told once, and wakes who waits. Scripted engine."""

from __future__ import annotations

import mailbox
import re
from pathlib import Path

import anyio
import pytest

from agents.host import Outcome
from runtime.budget import Budget
from runtime.cli._main import run as command
from runtime.mail import LETTERS_A_TURN
from runtime.recorder import load
from runtime.records import Settings
from runtime.swarm import Swarm
from tests.runtime.test_family import turns
from tests.runtime.test_swarm import last_told, snapshot
from tests.support import answer, call, scripted, tiny_chat
from workspace import Letter, Post

pytestmark = pytest.mark.anyio


def correspondents(text: str) -> str:
    """A parent that waits for mail; a copy that asks and waits for the answer."""
    if "You are copy" in text:
        if "Mail a1-" in text:
            return call("finish", result=re.findall(r"the key is (\w+)", text)[-1])
        return (
            call("send", to="a1", subject="key", body="which key?") if turns(text) == 1 else call("wait", until="mail")
        )
    if found := re.findall(r"^a2: (\w+)", text, re.MULTILINE):
        return call("finish", result=found[-1])
    if found := re.search(r"Mail (a2-s\d+-\d) from a2: key\nwhich key\?", last_told(text)):
        return call("send", to=["a2"], subject="re: key", body="the key is rye", in_reply_to=found[1])
    return call("fork", tasks=["ask"], wait=False) if turns(text) == 0 else call("wait")


async def test_mail_wakes_who_waits_and_is_told_once(tmp_path: Path) -> None:
    """A letter ends a wait, for children too; it stands in the context once, and its file is read then."""
    async with Swarm(scripted(correspondents), tmp_path) as swarm:
        lead = await swarm.start("t")
        with anyio.fail_after(20):
            result = await lead.result()
    assert result.text == "rye"
    text = tiny_chat().text(lead.state.head.ids())
    assert text.count("which key?") == 1
    assert "| mail 1]" in text
    box = mailbox.Maildir(swarm.layout.mail("a1"), create=False)
    (message,) = list(box)
    assert (message["Subject"], message.get_subdir(), message.get_flags()) == ("key", "cur", "S")
    (answered,) = list(mailbox.Maildir(swarm.layout.mail("a2"), create=False))
    assert answered["In-Reply-To"] == message["Message-ID"]
    assert snapshot(load(swarm.layout)) == snapshot(swarm.state)


@pytest.mark.parametrize("cut", range(2, 40, 3))
async def test_letters_survive_a_crash_at_any_record(tmp_path: Path, cut: int) -> None:
    """Resumed after any record, each letter has been told once, and none is sent twice."""
    async with Swarm(scripted(correspondents), tmp_path) as swarm:
        await (await swarm.start("t")).result()
    lines = swarm.layout.journal.read_bytes().splitlines(keepends=True)
    swarm.layout.journal.write_bytes(b"".join(lines[: min(cut, len(lines) - 1)]))
    # A turn is on the disk before what it sends: a letter whose turn the cut took was never there. What was told before
    # the cut may lie in `cur` already or, after a crash in between, still in `new`.
    known = load(swarm.layout).segments
    for file in swarm.layout.mails.glob("*/*/*-s*"):
        if int(re.findall(r"-s(\d+)-", file.name)[0]) not in known:
            file.unlink()
    async with Swarm(scripted(correspondents), tmp_path, resume=swarm.layout) as resumed:
        with anyio.fail_after(20):
            result = await resumed.handles()[0].result()
    assert result.text == "rye"
    text = tiny_chat().text(resumed.state.agents["a1"].head.ids())
    assert text.count("which key?") == 1
    assert len(list(mailbox.Maildir(swarm.layout.mail("a1"), create=False))) == 1


async def test_letters_that_wait_are_counted(tmp_path: Path) -> None:
    """More than a turn takes wait, which is said in words with their number; each of them is told, once, in order."""

    def decide(text: str) -> str:
        if text.count("Mail ") < LETTERS_A_TURN + 3:
            return call("calc", expression="1")
        return call("finish", result="read")

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        swarm._host.mail.open(lead.state)
        for number in range(LETTERS_A_TURN + 3):
            letter = Letter(id=f"n{number}", sender="human", to=("a1",), subject=f"n{number}", body="b", date=number)
            Post(swarm.layout).deliver(letter)
        assert (await lead.result()).text == "read"
    told = [tiny_chat().text(segment.tokens) for segment in reversed(list(lead.state.head.path()))]
    first, second = (text for text in told if "Mail " in text)
    said = "[more letters wait, 3: they come with your next turns, at most 8 with each]"
    assert (first.count(said), second.count("letters wait")) == (1, 0)
    assert "| mail 8]" in first
    assert "| mail 3]" in second
    assert re.findall(r"^Mail (n\d+) ", first + second, re.MULTILINE) == [f"n{n}" for n in range(LETTERS_A_TURN + 3)]


async def test_a_person_writes_by_dropping_a_file_or_by_a_command(tmp_path: Path) -> None:
    """A file in `new` and `ramet send` reach a waiting agent; what it sends to human lies in a mailbox."""

    answered = [anyio.Event(), anyio.Event()]

    def decide(text: str) -> str:
        if "good night" in text:
            return call("finish", result="bye")
        if said := text.count("sent to human"):
            answered[said - 1].set()
        if "from human" in last_told(text):
            return call("send", to="human", subject="re", body=f"you said {re.findall('hello|good day', text)[-1]}")
        return call("wait", until="mail")

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        with anyio.fail_after(30):
            (swarm.layout.mail("a1") / "new" / "note").write_text("hello\n")
            await answered[0].wait()
            sent = await anyio.to_thread.run_sync(command, ["send", str(tmp_path), "a1", "good day"])
            assert sent == 0
            await answered[1].wait()
            assert await anyio.to_thread.run_sync(command, ["send", str(tmp_path), "all", "good night"]) == 0
            assert (await lead.result()).text == "bye"
    bodies = [m.get_payload(decode=True) for m in mailbox.Maildir(swarm.layout.mail("human"), create=False)]
    assert sorted(b.decode().strip() for b in bodies if isinstance(b, bytes)) == ["you said good day", "you said hello"]


async def test_a_person_pauses_and_cancels_a_branch(tmp_path: Path) -> None:
    """Paused, a branch takes no turns and the others do; it goes on when told to, and ends when cancelled."""
    ticks = {"x": 0, "y": 0}
    moved = anyio.Event()

    def decide(text: str) -> str:
        nonlocal moved
        if "You are copy" in text:
            ticks[re.findall(r"Your task: (\w)", text)[-1]] += 1
            moved.set()
            moved = anyio.Event()
            return call("calc", expression="1")
        return call("fork", tasks=["x", "y"]) if turns(text) == 0 else call("finish", result=answer(text))

    async def tell(*words: str) -> None:
        assert await anyio.to_thread.run_sync(command, [words[0], str(tmp_path), words[1]]) == 0

    async def beyond(name: str, count: int) -> None:
        while ticks[name] <= count:
            await moved.wait()

    unlimited = Budget(turns=None, sampled_tokens=None)
    swarm = Swarm(scripted(decide, context_tokens=10**9), tmp_path, budget=unlimited, attended=True)
    async with swarm:
        lead = await swarm.start("t")
        with anyio.fail_after(60):
            await beyond("x", 2)
            await tell("pause", "a2")
            while not swarm.state.agents["a2"].paused:
                await moved.wait()
            was = ticks["x"]
            await beyond("y", ticks["y"] + 10)
            assert ticks["x"] <= was + 1  # the turn that was under way
            await tell("continue", "a2")
            await beyond("x", was + 2)
            await tell("cancel", "a2")
            await tell("cancel", "a3")
            result = await lead.result()
    assert "a2 cancelled" in result.text
    assert "a3 cancelled" in result.text
    assert snapshot(load(swarm.layout)) == snapshot(swarm.state)


async def test_who_can_be_written_to(tmp_path: Path) -> None:
    """Nobody, oneself and the dead are refused with the names of the living; `all` is everybody else."""

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("finish", result="ok") if "Mail a1" in text else call("wait", until="mail")
        if "a2: ok" in text and "has ended" not in last_told(text):
            return call("send", to="a2", subject="s", body="b")
        if "has ended" in last_told(text):
            return call("finish", result=answer(text))
        return [
            call("send", to="a9", subject="s", body="b"),
            call("send", to="a1", subject="s", body="b"),
            call("send", to="all", subject="s", body="b"),
            call("fork", tasks=["x", "y"], wait=False),
            call("send", to="all", subject="s", body="b"),
            call("wait"),
            call("wait"),
        ][turns(text)]

    async with Swarm(scripted(decide), tmp_path) as swarm:
        lead = await swarm.start("t")
        with anyio.fail_after(20):
            result = await lead.result()
    assert "a2 has ended (finished); its result is 'ok'" in result.text
    text = tiny_chat().text(lead.state.head.ids())
    for said in (
        "there is no agent 'a9'; there are no others",
        "that is you",
        "there is nobody else",
        "sent to a2, a3",
    ):
        assert said in text
    assert [a.outcome for a in swarm.state.agents.values()] == [Outcome.FINISHED] * 3


async def test_many_letters_come_in_order_and_in_portions(tmp_path: Path) -> None:
    """At most eight are told in a turn, the oldest first; a long one is cut, with where the whole is."""

    def decide(text: str) -> str:
        if "You are copy" in text:
            seen = [int(n) for n in re.findall(r"from a1: n(\d+)", text)]
            return call("finish", result=repr(seen)) if len(seen) == 20 else call("wait", until="mail")
        if "a2: " in last_told(text):
            return call("finish", result=answer(text))
        if turns(text) == 0:
            return call("fork", tasks=["x"], wait=False)
        if turns(text) > 20:
            return call("wait")
        return call("send", to="a2", subject=f"n{turns(text)}", body="b" * (3000 if turns(text) == 3 else 3))

    async with Swarm(scripted(decide), tmp_path, settings=Settings(turn_tokens=4096)) as swarm:
        lead = await swarm.start("t")
        with anyio.fail_after(30):
            result = await lead.result()
    assert repr(list(range(1, 21))) in result.text
    assert "[cut after 2000 of 30" in tiny_chat().text(swarm.state.agents["a2"].head.ids())


def test_sending_from_the_command_line_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No run, no such agent, no text: one line and exit code 2."""
    for words in (["a1"], [str(tmp_path), "a1", "hi"], [str(tmp_path), "a1", " "]):
        assert command(["send", *words]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 3
    assert "no run in" in told
