"""What we believe is in an engine's cache. Pure.

Owns a belief: the segments that were computed and probably not evicted since, at most a pool full, the least recently
used forgotten first, as the engine does. It is corrected by what every reply reports (`cached_tokens`), which is how an
engine that restarted, was flushed, or serves others too is noticed.

Used for two things: a prefix that several agents share and that is not resident is warmed by one of them first, and
replies that found less than was there are counted.
"""

from __future__ import annotations

from collections import OrderedDict

from agents.context import Origin, Segment

__all__ = ["Residency"]


class Residency:
    """The belief about one pool. A segment counts as resident only if all that leads to it does."""

    def __init__(self, pool_tokens: int, page_tokens: int = 1) -> None:
        self._pool = pool_tokens
        self._page = page_tokens
        self._segments: OrderedDict[int, int] = OrderedDict()  # id -> tokens, least recently used first
        self._tokens = 0

    def expected(self, head: Segment) -> int:
        """How many tokens of `head` a request should find cached, at least."""
        resident: Segment | None = None
        for segment in reversed(list(head.path())):
            if segment.id not in self._segments:
                break
            resident = segment
        if resident is None:
            return 0
        # The last token that was sampled has no KV, and the last of a prompt is always computed.
        found = resident.length - (resident.origin is Origin.SAMPLED)
        return min(found, head.length - 1) // self._page * self._page

    def missing(self, head: Segment) -> int:
        """How many tokens of `head` a request would have to compute."""
        return head.length - self.expected(head)

    def computed(self, head: Segment) -> None:
        """The engine has just computed `head`: all of it is there, and was used last."""
        for segment in head.path():  # the root is touched last, so leaves are forgotten before what they hang on
            if segment.id in self._segments:
                self._segments.move_to_end(segment.id)
            else:
                self._segments[segment.id] = len(segment.tokens)
                self._tokens += len(segment.tokens)
        while self._tokens > self._pool and self._segments:
            self._tokens -= self._segments.popitem(last=False)[1]

    def found(self, head: Segment, cached: int) -> int:
        """A request for `head` reported `cached` tokens: believe it. Returns by how much it fell short."""
        short = max(0, self.expected(head) - cached)
        if short:
            for segment in head.path():
                if segment.length <= cached:
                    break
                self._tokens -= self._segments.pop(segment.id, 0)
        return short
