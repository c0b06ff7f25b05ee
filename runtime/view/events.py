"""A run as a stream of JSON objects, one a line, for programs.

Every object has `event`; agents are named by `agent`. Tokens and seconds throughout.

    run_started    run, dir, model                      once, of a new run
    run_resumed    run, dir, model                      instead of it, of a resumed one
    engine         message                              what is being done to get the engine ready
    engine_trouble reason                               it is gone, and the agents wait for it; or it fails
    engine_well                                         there is no trouble any more
    agent_started  agent, parent (or null), task
    turn           agent, turn, sampled_tokens, prompt_tokens, cached_tokens, finish, seconds
    call_started   agent, call                          `call`: the tool, and on what
    call_ended     agent, call, error
    rewound        agent, to                            `to`: the checkpoint, such as t5
    succeeded      agent                                it goes on in a fresh context
    agent_ended    agent, outcome, result
    run_ended      outcome, result, dir, stats          always the last, of every run that began

`outcome` of run_ended is the lead's (finished, failed, out_of_budget, cancelled) or, where the run can be resumed,
`interrupted` or `stopped`. Where the truth is known (`ramet demo`), run_ended has `truth` and `right` too.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import msgspec

from runtime.errors import OutputLost
from runtime.records import (
    CallEnded,
    CallStarted,
    Ended,
    Forked,
    Opened,
    Outage,
    Record,
    Rewound,
    Sampled,
    Started,
    Succeeded,
)
from runtime.state import RunState
from runtime.stats import Stats
from runtime.view.judgement import Judgement

__all__ = ["Events"]

_encode = msgspec.json.Encoder().encode


class Events:
    """Writes events to `out`, each flushed at once. Raises OutputLost when it cannot."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._state: RunState | None = None
        self._root: Path | None = None
        self._calls: dict[tuple[str, int], str] = {}
        self._phase = ""

    def progress(self, line: str) -> None:
        """What the engine is doing; only what is new about it (`starting: 3 s` is `starting`)."""
        phase = line.partition(":")[0]
        if phase != self._phase:
            self._phase = phase
            self._write("engine", message=phase)

    def begin(self, state: RunState, root: Path, *, resumed: bool) -> None:
        """Name the run that the records to come are of."""
        self._state, self._root = state, root
        if resumed:
            self._begun("run_resumed", state.settings.model)

    def observe(self, record: Record) -> None:
        """Tell of one record."""
        match record:
            case Opened():
                self._begun("run_started", record.settings.model)
            case Started():
                self._write("agent_started", agent=record.agent, parent=record.parent, task=record.task)
            case Forked():
                for copy in record.copies:
                    self._write("agent_started", agent=copy.agent, parent=record.agent, task=copy.task)
            case Sampled():
                self._turn(record)
            case CallStarted():
                self._calls[record.agent, record.index] = record.name
                self._write("call_started", agent=record.agent, call=record.name)
            case CallEnded():
                call = self._calls.pop((record.agent, record.index), "")
                self._write("call_ended", agent=record.agent, call=call, error=record.reply.error)
            case Rewound():
                self._write("rewound", agent=record.agent, to=f"t{self._turn_of(record.to)}")
            case Succeeded():
                self._write("succeeded", agent=record.agent)
            case Outage(over=True):
                self._write("engine_well")
            case Outage():
                self._write("engine_trouble", reason=record.reason)
            case Ended():
                self._write("agent_ended", agent=record.agent, outcome=record.outcome, result=record.result)
            case _:
                pass

    async def show(self) -> None:
        """Nothing to do beside the run: events are written as they happen."""

    def stop(self) -> None:
        """Nothing to clear away."""

    def end(self, outcome: str, result: str, root: Path, stats: Stats, judgement: Judgement | None = None) -> None:
        """The last event."""
        known = msgspec.structs.asdict(judgement) if judgement is not None else {}
        self._write("run_ended", outcome=outcome, result=result, dir=str(root), stats=stats, **known)

    def _begun(self, event: str, model: str) -> None:
        root = self._root
        self._write(event, run=root.name if root else None, dir=str(root) if root else None, model=model)

    def _turn(self, record: Sampled) -> None:
        self._write(
            "turn",
            agent=record.agent,
            turn=self._turn_of(record.segment),
            sampled_tokens=len(record.tokens),
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            finish=record.finish,
            seconds=round(record.seconds, 3),
        )

    def _turn_of(self, segment: int) -> int:
        assert self._state is not None, "begin() comes before the records of turns"
        return self._state.segments[segment].turn

    def _write(self, event: str, **fields: object) -> None:
        try:
            self._out.write(_encode({"event": event, **fields}).decode() + "\n")
            self._out.flush()
        except OSError as error:
            raise OutputLost(f"standard output cannot be written: {error.strerror}") from error
