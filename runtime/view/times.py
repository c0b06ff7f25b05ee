"""When agents began and ended: a fold over the records, for people who watch.

Wall-clock seconds since 1970, as the journal has them; nothing is decided by them.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.records import Ended, Forked, Record, Started

__all__ = ["Times"]


class Times:
    """`began` and `ended` by agent id. An agent that lives has no `ended`."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    @classmethod
    def replay(cls, records: Iterable[Record]) -> Times:
        """What `records` say."""
        times = cls()
        for record in records:
            times.observe(record)
        return times

    def observe(self, record: Record) -> None:
        """Note one more record."""
        match record:
            case Started():
                self.began[record.agent] = record.at
            case Forked():
                for copy in record.copies:
                    self.began[copy.agent] = record.at
            case Ended():
                self.ended[record.agent] = record.at
            case _:
                pass

    def elapsed_s(self, agent: str, now: float) -> float:
        """How long an agent has lived, or did."""
        began = self.began.get(agent, now)
        return max(0.0, self.ended.get(agent, now) - began)
