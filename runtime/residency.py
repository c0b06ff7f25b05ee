"""What we believe is in an engine's cache. Pure.

Owns a belief: the segments that were computed and probably not evicted since, at most a pool full, the least recently
used forgotten first, as the engine does. It is corrected by what every reply reports (`cached_tokens`), which is how an
engine that restarted, was flushed, or serves others too is noticed.

A turn costs what it adds, not the length of its context: that an old part was used again is only noted, by its head,
and put in order when something must be forgotten.

Used for two things: a prefix that several agents share and that is not resident is warmed by one of them first, and
replies that found less than was there are counted.
"""

from __future__ import annotations

from agents.context import Origin, Segment

__all__ = ["Residency"]


class Residency:
    """The belief about one pool. A segment counts as resident only if all that leads to it does.

    Unless something is `torn`, all that leads to a segment in the belief is in it too, so walks up may end there.
    """

    def __init__(self, pool_tokens: int, page_tokens: int = 1) -> None:
        self._pool = pool_tokens
        self._page = page_tokens
        self._segments: dict[int, int] = {}  # id -> tokens, least recently used first, but for
        self._used: dict[int, Segment] = {}  # ... heads that were used since that was put in order, in their order
        self._torn: set[int] = set()  # what was found missing, from under descendants that may be there
        self._tokens = 0

    def expected(self, head: Segment) -> int:
        """How many tokens of `head` a request should find cached, at least."""
        resident: Segment | None = None
        for segment in head.path():
            if segment.id not in self._segments:
                resident = None
            elif resident is None:
                resident = segment
                if not self._torn:
                    break
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
        for segment in head.path():
            self._used.pop(segment.id, None)  # using what follows it uses it
            if segment.id not in self._segments:
                self._segments[segment.id] = segment.added
                self._tokens += segment.added
                self._torn.discard(segment.id)
            elif not self._torn:
                break
        self._used[head.id] = head
        if self._tokens > self._pool:
            self._forget()

    def found(self, head: Segment, cached: int) -> int:
        """A request for `head` reported `cached` tokens: believe it. Returns by how much it fell short."""
        short = max(0, self.expected(head) - cached)
        if short:
            for segment in head.path():
                if segment.length <= cached:
                    break
                if segment.id in self._segments:
                    self._tokens -= self._segments.pop(segment.id)
                    self._torn.add(segment.id)
        return short

    def _forget(self) -> None:
        """Put the segments in the order of their last use, and forget the first ones."""
        for head in self._used.values():
            for segment in head.path():  # the root is touched last: leaves are forgotten before what they hang on
                if segment.id in self._segments:
                    self._segments[segment.id] = self._segments.pop(segment.id)
        self._used.clear()
        first = []  # a plain dict takes half the memory of an ordered one, which could give its first away at once
        for id, tokens in self._segments.items():
            if self._tokens <= self._pool:
                break
            self._tokens -= tokens
            first.append(id)
        for id in first:
            del self._segments[id]
