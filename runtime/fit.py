"""Whether a record can follow those before it. Pure.

Owns what the fold over a journal takes for granted: agents and segments are numbered in the order in which they came,
a record names only those that there are, nobody ends twice. A journal that was damaged, or written by somebody else,
is refused where it is read, by the line, and not by whatever breaks later. Says nothing of what tokens mean.
"""

from __future__ import annotations

from runtime.records import (
    Closed,
    Copy,
    Ended,
    Forked,
    Given,
    Opened,
    Outage,
    Record,
    Resumed,
    Returned,
    Rewound,
    Sampled,
    Started,
    Succeeded,
    Warmed,
)

__all__ = ["Fit"]


class Fit:
    """How many agents and segments there are after the records so far."""

    def __init__(self) -> None:
        self._agents = 0
        self._segments = 0
        self._ended: set[str] = set()
        self._opened = False

    def problem(self, record: Record) -> str:
        """What is wrong with `record` at this place, in words; "" if nothing is, and then it is counted."""
        match record:
            case Opened():
                said = "a second header" if self._opened else ""
                self._opened = True
                return said
            case Resumed() | Closed() | Outage():
                return ""
            case Started():
                return self._unknown(record.parent) or self._new(record)
            case Forked():
                if record.answers and len(record.copies) != 1:
                    return f"{len(record.copies)} copies answer"
                return self._unknown(record.agent) or self._no_segment(record.segment) or self._new(*record.copies)
            case _:
                pass
        if said := self._unknown(record.agent):
            return said
        match record:
            case Rewound():
                return self._no_segment(record.to) or self._grows(record.segment)
            case Sampled():
                if len(record.logprobs) not in (0, len(record.tokens)):
                    return f"{len(record.tokens)} tokens with {len(record.logprobs)} log-probabilities"
                return self._grows(record.segment)
            case Given() | Succeeded():
                return self._grows(record.segment)
            case Warmed() | Returned():
                return self._no_segment(record.segment)
            case Ended():
                if record.agent in self._ended:
                    return f"{record.agent} has ended before"
                self._ended.add(record.agent)
            case _:
                pass
        return ""

    def _new(self, *made: Started | Copy) -> str:
        for one in made:
            if one.agent != f"a{self._agents + 1}":
                return f"a{self._agents + 1} is the next agent, and not {one.agent[:20]!r}"
            self._agents += 1
            if said := self._grows(one.segment):
                return said
        return ""

    def _grows(self, segment: int) -> str:
        if segment != self._segments + 1:
            return f"{self._segments + 1} is the next segment, and not {segment}"
        self._segments += 1
        return ""

    def _no_segment(self, segment: int) -> str:
        return "" if 0 < segment <= self._segments else f"there is no segment {segment}"

    def _unknown(self, agent: str | None) -> str:
        if agent is None:
            return ""
        number = agent[1:]
        there = agent[:1] == "a" and len(number) < 10 and number.isascii() and number.isdecimal() and number[0] != "0"
        return "" if there and int(number) <= self._agents else f"there is no agent {agent[:20]!r}"
