"""The one door through which anything happens in a run: journal, then state, then everything derived from it.

Owns the run's journal and its `RunState`. Invariants: a record is in the journal before it changes the state and
before its effect is carried out; the readable files (histories, results) are derived from records alone, so a run
that is replayed writes the same ones, and what a crash kept from being written is written on resuming; no jump of the
wall clock adds to the time that a run was alive, or takes from it. It starts nothing and waits for nothing but the
disk.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from agents.chat import Chat
from agents.context import Origin
from agents.host import Outcome
from agents.told import rejected_text
from runtime.fit import Fit
from runtime.records import (
    VERSION,
    Begun,
    Ended,
    Forked,
    Given,
    Opened,
    Record,
    Resumed,
    Rewound,
    Sampled,
    Settings,
    Started,
    Succeeded,
)
from runtime.records import decode as decode_record
from runtime.records import encode as encode_record
from runtime.state import RunState
from workspace import (
    NOT_JSON,
    History,
    JournalCorrupt,
    JournalReader,
    JournalWriter,
    RecordFailed,
    RunLayout,
    harmless,
    read_journal,
)

__all__ = ["Follower", "Observer", "Recorder", "load", "records"]

Observer = Callable[[Record], None]

_log = structlog.get_logger(__name__)
# The frame that the most common chat format (ChatML) puts around a message: noise to a reader of a history.
_FRAME = re.compile(r"<\|im_end\|>\n?|<\|im_start\|>(?:assistant|user)\n?|</?tool_response>\n?")


def records(layout: RunLayout) -> Iterator[Record]:
    """The records of a run's journal, in order. Raises JournalCorrupt, naming file and line."""
    return _decoded(read_journal(layout.journal), Fit())


class Follower:
    """Reads the journal of a run that goes on, in this process or another."""

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._lines: JournalReader | None = None
        self._fit = Fit()

    def new(self) -> Iterator[Record]:
        """The records that have come since the last time. Raises JournalCorrupt."""
        self._lines = read_journal(self._layout.journal, self._lines)
        return _decoded(self._lines, self._fit)


def _decoded(lines: JournalReader, fit: Fit) -> Iterator[Record]:
    for line in lines:
        try:
            record = decode_record(line)
        except NOT_JSON as error:
            raise lines.corrupt(str(error)) from error
        if lines.line == 1 and not (isinstance(record, Opened) and record.version == VERSION):
            raise lines.corrupt(f"not the header of a version {VERSION} journal")
        if problem := fit.problem(record):
            raise lines.corrupt(problem)
        yield record


def load(layout: RunLayout) -> RunState:
    """The state of a run as its journal tells it, running or not. Raises JournalCorrupt."""
    return RunState.replay(records(layout))


class _Stamps:
    """When records happen: the wall clock as it was when this process began, and a clock that nobody sets since.

    So a clock that jumps adds no time to a run and takes none, and stamps never go back.
    """

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self._wall, self._steady = wall, steady
        self.begin()

    def begin(self, after: float = 0.0) -> None:
        """Read the wall clock, which may have been set back since `after`."""
        self._ahead = max(self._wall(), after) - self._steady()

    def now(self) -> float:
        """Seconds since 1970."""
        return self._steady() + self._ahead


class Recorder:
    """Writes a run down. Opening one takes the run's lock: JournalLocked if another process has it."""

    def __init__(
        self,
        layout: RunLayout,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.layout = layout
        self.state = RunState()
        self.observers: list[Observer] = []
        self._clock = _Stamps(clock, steady)
        self._chat: Chat | None = None
        self._history = History(layout)
        self._journal = JournalWriter(layout.journal)

    def open(self, settings: Settings, task: str) -> None:
        """Begin a new run."""
        self._history.write_task(task)
        self.commit(Opened(version=VERSION, run=self.layout.run, settings=settings))
        self.sync()

    def reopen(self) -> None:
        """Go on with a run that stopped: everything its journal says, and a record that it was resumed."""
        last: Record | None = None
        heads: dict[str, int] = {}  # the segment that each agent's history ends with, before the last record
        try:
            for record in records(self.layout):
                self.state.apply(record)
                if last is not None:
                    heads.update(_tells(last))
                last = record
        except JournalCorrupt:
            self.close()
            raise
        self._clock.begin(self.state.last_at)
        if last is not None:  # else it died before its header, and nothing has happened that could go on
            self._make_whole(heads, dict(_tells(last)))
            self._write(last, again=True)  # the process may have died between the record and its readable form
            self.commit(Resumed())

    def read_with(self, chat: Chat) -> None:
        """Name the chat format that tokens are put into readable words with."""
        self._chat = chat

    def commit(self, record: Record) -> None:
        """Let `record` have happened. Raises JournalError, and nothing has happened, where it cannot be written."""
        record = msgspec.structs.replace(record, at=self._clock.now())
        self._journal.append(encode_record(record))
        self.state.apply(record)
        self._write(record)
        for observer in self.observers:
            observer(record)

    def sync(self) -> None:
        """Wait until what was committed is on the disk: before anything that cannot be taken back."""
        self._journal.sync()

    def close(self) -> None:
        """Give up the run's lock."""
        self._journal.close()

    def _write(self, record: Record, *, again: bool = False) -> None:
        """Put what a record says into the readable files; `again` if that may have been done."""
        for agent, paragraph in self._told(record):
            if not (again and _ends_with(self.layout.history(agent), paragraph)):
                with _where_possible():
                    self._history.append(agent, paragraph)
        if isinstance(record, Ended):
            with _where_possible():
                self._history.write_result(record.agent, record.result)
        if said := self._interviewed(record):
            agent, paragraph = said
            if not (again and _ends_with(self.layout.interview(agent), paragraph)):
                with _where_possible():
                    self._history.append_interview(agent, paragraph)

    def _make_whole(self, heads: dict[str, int], last: dict[str, int]) -> None:
        """Write what the disk had no room for: what is not there, and histories that end before `heads`, or `last`."""
        for agent in self.state.agents.values():
            if not self.layout.prompt(agent.id).exists():
                with _where_possible():
                    self._history.write_prompt(agent.id, agent.task)
            if agent.outcome is not None and not self.layout.result(agent.id).exists():
                with _where_possible():
                    self._history.write_result(agent.id, agent.result)
        behind = {
            name
            for name, head in heads.items()
            if not (self._ends_at(name, head) or (name in last and self._ends_at(name, last[name])))
        }
        anew: set[str] = set()
        for name in behind:
            with _where_possible():
                self._history.forget(name)
                anew.add(name)
        if not anew:
            return
        for record in records(self.layout):
            if isinstance(record, Ended) or any(name in anew for name, _ in _tells(record)):
                for name, paragraph in self._told(record):
                    if name in anew:
                        with _where_possible():
                            self._history.append(name, paragraph)

    def _ends_at(self, agent: str, head: int) -> bool:
        rejected = self.state.agents[agent].outcome is Outcome.REJECTED
        return _ends_with(self.layout.history(agent), self._rejection(agent) if rejected else self._paragraph(head))

    def _rejection(self, agent: str) -> str:
        return f"## {agent} is rejected\n\n{rejected_text(self.state.agents[agent])}"

    def _interviewed(self, record: Record) -> tuple[str, str] | None:
        match record:
            case Begun():
                return record.agent, f"## {record.agent} begins\n\n{record.understanding}"
            case Forked(answers=True):
                return record.agent, f"## {record.agent} asks\n\n{record.copies[0].task}"
            case Ended() if self.state.agents[record.agent].answers:
                asker = self.state.agents[record.agent].parent or ""
                return asker, f"## {record.agent} answers\n\n{record.result}"
            case _:
                return None

    def _told(self, record: Record) -> Iterable[tuple[str, str]]:
        match record:
            case Started():
                by = f" by {record.parent}" if record.parent else ""
                self._open_agent(record.agent, f"{record.agent}: started{by}")
                return [(record.agent, self._paragraph(record.segment))]
            case Forked():
                of, turn = len(record.copies), self.state.segments[record.segment].turn
                for number, copy in enumerate(record.copies, 1):
                    self._open_agent(
                        copy.agent,
                        f"{copy.agent}: copy {number} of {of}, forked from {record.agent} at t{turn}\n\n"
                        f"Up to there its history is `../{record.agent}/history.md`.",
                    )
                return [(copy.agent, self._paragraph(copy.segment)) for copy in record.copies]
            case Sampled() | Given() | Rewound() | Succeeded():
                return [(record.agent, self._paragraph(record.segment))]
            case Ended(outcome=Outcome.REJECTED):
                return [(record.agent, self._rejection(record.agent))]
            case _:
                return []

    def _open_agent(self, agent: str, heading: str) -> None:
        with _where_possible():
            self._history.open_agent(agent, heading=heading)
        with _where_possible():
            self._history.write_prompt(agent, self.state.agents[agent].task)

    def _paragraph(self, number: int) -> str:
        segment = self.state.segments[number]
        who = "said" if segment.origin is Origin.SAMPLED else "was told"
        words = self._chat.text(segment.tokens) if self._chat else " ".join(map(str, segment.tokens))
        return f"## t{segment.turn} {who}\n\n{_FRAME.sub('', words).strip()}"


@contextmanager
def _where_possible() -> Iterator[None]:
    """A readable file can be written later, from the journal: that it is not written now stops nobody."""
    try:
        yield
    except RecordFailed as error:
        _log.warning("a readable file was not written", path=str(error.path), reason=str(error))


def _tells(record: Record) -> Iterable[tuple[str, int]]:
    """Whose history a record adds a segment to, and which."""
    match record:
        case Started() | Sampled() | Given() | Rewound() | Succeeded():
            return [(record.agent, record.segment)]
        case Forked():
            return [(copy.agent, copy.segment) for copy in record.copies]
        case _:
            return []


def _ends_with(path: Path, paragraph: str) -> bool:
    """Whether a readable file ends with a paragraph, as `History` writes it."""
    wanted = harmless(paragraph).strip().encode()
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(wanted) - 2))
            return file.read().strip().endswith(wanted)
    except FileNotFoundError:
        return False
