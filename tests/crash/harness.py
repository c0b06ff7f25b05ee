"""Kills a run again and again, resumes it, and says what was lost.

Owns the seeded choice of where a run dies, the cutting of its journal, and the invariants. A cut takes only what the
dead process had not waited for: a power cut may lose that, and nothing else.
"""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agents.host import Outcome
from runtime.recorder import load, records
from runtime.records import CallEnded, CallStarted, Forked, Given, Record, Rewound, Sampled, Started
from runtime.state import RunState
from tests.crash.child import FINISHED, Orders, picture
from tests.crash.script import ANSWER, LEAD, LETTERS
from workspace import Letter, Post, RunLayout

__all__ = ["Children", "Kills", "broken", "children", "killed_run", "no_disk_of_their_own"]

ROOT = Path(__file__).parents[2]
MOST_STEPS = 60  # a kill comes this many steps after the last one at most: the whole job has about nine hundred
MOST_SECONDS = 0.12  # or this long; the whole job takes about half a second of an idle processor
SIGKILLED = -signal.SIGKILL


class Children:
    """Whoever forks the processes that are killed."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def sees(self, path: Path) -> Path:
        """Where this process finds what they see at `path`, which may be a file system of their own."""
        return Path(f"/proc/{self._server.pid}/root") / path.relative_to("/")

    def wait(self) -> None:
        """Until they can be started: what they see is there then."""
        assert self._server.stdin is not None
        self._server.stdin.write("\n")
        self._server.stdin.flush()
        self.end()

    def begin(self, orders: Orders, *, seconds: float = 0.0) -> None:
        """Start one."""
        assert self._server.stdin is not None
        self._server.stdin.write(msgspec.json.encode((seconds, orders)).decode() + "\n")
        self._server.stdin.flush()

    def end(self) -> int:
        """How it ended: its exit code, or minus the signal."""
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())

    def run(self, orders: Orders, *, seconds: float = 0.0) -> int:
        """Both."""
        self.begin(orders, seconds=seconds)
        return self.end()


@contextmanager
def children(*, small: Path | None = None, size: int = 0) -> Iterator[Children]:
    """Until the block ends. They see a file system of `size` bytes at `small`, if that is named."""
    command = [*_on_a_disk_of_their_own(small, size), sys.executable, "-m", "tests.crash.child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        forked = Children(server)
        if small is not None:
            forked.wait()
        yield forked


def _on_a_disk_of_their_own(place: Path | None, size: int) -> list[str]:
    if place is None:
        return []
    mount = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(place)]


def no_disk_of_their_own(place: Path) -> str:
    """Why children cannot have a file system of their own here, or ""."""
    try:
        command = [*_on_a_disk_of_their_own(place, 1 << 20), "true"]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no unshare"
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"unshare ended with {tried.returncode}"


class Kills(msgspec.Struct):
    """What was done to one run."""

    kills: int = 0
    letters: list[str] = []  # ids of those that somebody dropped into the lead's mailbox between two of them
    cut_bytes: int = 0
    cuts: int = 0


def killed_run(place: Path, chances: random.Random, kills: int, forked: Children) -> tuple[RunLayout, Kills]:
    """Do the job in `place`, which is empty, dying `kills` times on the way (or as often as it takes to end it)."""
    directory, done = place / "work", Kills()
    directory.mkdir()
    while True:
        runs = RunLayout.all(directory)
        dies = done.kills < kills
        by_steps = chances.random() < 0.7
        orders = Orders(
            directory=str(directory),
            resume=bool(runs),
            steps=chances.randint(1, MOST_STEPS) if dies and by_steps else 0,
        )
        before = runs[0].journal.read_bytes() if runs else b""
        code = forked.run(orders, seconds=chances.uniform(0.002, MOST_SECONDS) if dies and not by_steps else 0.0)
        if code == FINISHED:
            return RunLayout.all(directory)[0], done
        assert code == SIGKILLED, f"a child ended with {code}"
        done.kills += 1
        if runs:  # what was on the disk is there still, byte for byte: every turn that was ever read back
            after = runs[0].journal.read_bytes()
            whole = before[: before.rfind(b"\n") + 1]
            assert after.startswith(whole), "a committed line was lost"
        for run in RunLayout.all(directory):
            _power_cut(run.journal, place / "durable", chances, done)
            if run.mail(LEAD).is_dir() and chances.random() < 0.3:
                _drop(run, done)


def _power_cut(journal: Path, shared: Path, chances: random.Random, done: Kills) -> None:
    """Sometimes take a part of what was not durable, from a random byte on."""
    size = journal.stat().st_size
    durable = struct.unpack("<q", shared.read_bytes())[0] if shared.exists() else 0
    assert durable <= size, "the journal is shorter than what was durable"
    if durable < size and chances.random() < 0.5:
        cut = chances.randint(max(durable, 1), size)
        with journal.open("r+b") as file:
            file.truncate(cut)
        done.cut_bytes += size - cut
        done.cuts += 1


def _drop(run: RunLayout, done: Kills) -> None:
    """A person writes to the lead, who may be dead at the moment."""
    id = f"person-{done.kills}"
    letter = Letter(id=id, sender="human", to=(LEAD,), subject="hello", body="there", date=0.0)
    Post(run).deliver(letter)
    done.letters.append(id)


def broken(place: Path, layout: RunLayout, dropped: Sequence[str] = ()) -> list[str]:
    """The invariants that the finished run does not keep, in words. `dropped`: letters of people to the lead."""
    said: list[str] = []
    history = list(records(layout))
    state = RunState.replay(history)
    if (state.outcome, state.result) != (Outcome.FINISHED, ANSWER):
        said.append(f"the answer is {state.outcome}: {state.result!r}")
    said += [f"{agent.id} has no outcome" for agent in state.agents.values() if agent.outcome is None]
    files = [path for agent in state.agents for path in (layout.prompt(agent), layout.result(agent))]
    said += [f"there is no {path}" for path in files if not path.is_file()]
    if picture(load(layout)) != picture(state):
        said.append("two replays differ")
    live = (place / "picture").read_bytes()
    if msgspec.msgpack.encode(picture(state)) != live:
        said.append("the replay differs from what was live")
    said += [
        *_histories(layout, history),
        *_calls(place, history),
        *_command(layout, history),
        *_letters(layout, history, dropped),
        *_turns(history, state),
        *_budgets(state),
    ]
    for name in ("one", "two"):
        merged = layout.directory / f"{name}.txt"
        if not merged.is_file() or merged.read_text() != f"{name}\n":
            said.append(f"{merged.name} was not merged")
    return said


def _calls(place: Path, history: list[Record]) -> Iterator[str]:
    """Every call that ended ran once; one that began and was cut off ran at most once; no other ran at all."""
    began, ended = Counter[str](), Counter[str]()
    head: dict[str, int] = {}
    state = RunState()
    for record in history:
        state.apply(record)
        if isinstance(record, CallStarted | CallEnded):
            head[record.agent] = state.agents[record.agent].head.id
            key = f"{record.agent} s{head[record.agent]}"
            if isinstance(record, CallStarted) and record.name == "append":
                began[key] += 1
            elif isinstance(record, CallEnded) and record.reply.text.startswith("appended"):
                ended[key] += 1
    witness = place / "witness.txt"
    lines = Counter(line.rpartition(" ")[0] for line in witness.read_text().splitlines()) if witness.exists() else {}
    for key, times in lines.items():
        if times > 1:
            yield f"{key} ran {times} times"
        if key not in began:
            yield f"{key} ran and is not in the journal"
    for key, times in ended.items():
        if times > 1 or lines.get(key, 0) != 1:
            yield f"{key} ended {times} times and ran {lines.get(key, 0)} times"
    # Of what a process had begun when it died, some ran and some did not; all of it was asked for once.
    yield from (f"{key} began {times} times" for key, times in began.items() if times > 1)


def _histories(layout: RunLayout, history: list[Record]) -> Iterator[str]:
    """Every agent's readable history has all that it was told and said (and perhaps what a power cut took back)."""
    told = Counter[str]()
    for record in history:
        match record:
            case Started() | Given() | Sampled() | Rewound():
                told[record.agent] += 1
            case Forked():
                told.update(copy.agent for copy in record.copies)
    for agent, paragraphs in told.items():
        path = layout.history(agent)
        found = path.read_text().count("\n## t") if path.exists() else 0
        if found < paragraphs:
            yield f"the history of {agent} has {found} paragraphs of {paragraphs}"


def _command(layout: RunLayout, history: list[Record]) -> Iterator[str]:
    """The shell command ran once where the journal says that it ended, and at most once where it was cut off."""
    log = layout.directory / "shell.log"
    lines = Counter(log.read_text().splitlines()) if log.exists() else Counter[str]()
    replies = [r.reply for r in history if isinstance(r, CallEnded) and r.reply.did.startswith("ran `echo begun")]
    passed = sum(not reply.note for reply in replies)  # where no file may grow, the sandbox's own limits cannot be set
    if lines["begun"] > 1 or lines["ended"] > lines["begun"] or len(replies) > 1:
        yield f"the command ran more than once: {dict(lines)}"
    if passed and (lines["begun"], lines["ended"]) != (1, 1):
        yield f"the command ended and left {dict(lines)}"


def _letters(layout: RunLayout, history: list[Record], dropped: Sequence[str]) -> Iterator[str]:
    """The lead was told every letter once; what came after its last turn is unread."""
    told = Counter(letter for record in history if isinstance(record, Given) for letter in record.mail)
    yield from (f"the letter {letter} was told {times} times" for letter, times in told.items() if times > 1)
    known = {
        letter for record in history if isinstance(record, Given) and record.agent == LEAD for letter in record.mail
    }
    unread = {letter.id for letter in Post(layout).unread(LEAD)}
    if len(known - set(dropped)) != len(LETTERS):
        yield f"the lead was told {len(known - set(dropped))} letters of {len(LETTERS)}"
    for letter in dropped:
        if (letter in known) == (letter in unread):
            yield f"the dropped letter {letter} is {'told and unread' if letter in known else 'gone'}"


def _turns(history: list[Record], state: RunState) -> Iterator[str]:
    """Every turn's prompt is the path that leads to it."""
    for record in history:
        if isinstance(record, Sampled):
            segment = state.segments[record.segment]
            if segment.parent is None or segment.parent.length != record.prompt_tokens:
                yield f"segment {segment.id} does not hang on its prompt"


def _budgets(state: RunState) -> Iterator[str]:
    """An account is the sum of its agent and of those below it, and the run's of all."""
    for agent in state.agents.values():
        below = [other for other in state.agents.values() if agent.id in _above(state, other.id)]
        account = state.accounts[agent.id]
        sums = (
            sum(other.sampled_tokens for other in below),
            sum(other.prompt_tokens - other.cached_tokens for other in below),
            sum(other.turns for other in below),
            0,
        )
        if (account.sampled_tokens, account.computed_tokens, account.turns, account.alive) != sums:
            yield f"the account of {agent.id} does not add up"
    if state.account.turns != sum(agent.turns for agent in state.agents.values()):
        yield "the run's account does not add up"


def _above(state: RunState, name: str) -> list[str]:
    """The agent and those it comes from."""
    names, at = [name], state.agents[name].parent
    while at is not None:
        names.append(at)
        at = state.agents[at].parent
    return names
