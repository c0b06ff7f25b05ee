"""The token tree: segments and contexts.

Owns the record of what a model saw and said. A `Segment` is immutable, stores only the tokens it adds, and
points to the segment before it; a context is the path from a root to a head. Forking is copying a pointer.

Invariants:
- a segment is never edited, so every descendant's prefix is stable;
- `sampled` segments hold exactly the tokens the engine returned, `given` ones exactly what it will be sent;
- `ids()` of a head equals the concatenation of its path, and `json()` is that list as JSON, byte for byte.

Does not know where tokens come from, what they mean, or which agent they belong to.
"""

from __future__ import annotations

import enum
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice

__all__ = ["Origin", "Segment"]

# Contexts up to here are encoded at each turn: at most 0.2 ms, and keeping it would take twice the ids' memory.
ENCODED_ANEW_TOKENS = 2048
# Segments whose JSON is kept as one piece: a turn of a long context joins a few dozen pieces, and not thousands.
BLOCK = 64


class Origin(enum.StrEnum):
    """Who produced a segment's tokens."""

    SAMPLED = "sampled"
    GIVEN = "given"


class Segment:
    """A span of tokens with one origin, and the path that leads to it.

    `length` counts the tokens of the whole path, `turn` the turns on it: checkpoint `t<turn>` is the end of the given
    segment that follows turn number `turn`. A turn is a run of sampled segments: one, unless it was interrupted.
    """

    __slots__ = (
        "__weakref__",  # engines remember families by their root, for as long as there is one
        "_block",
        "_json",
        "_logprobs",
        "_tokens",
        "depth",
        "id",
        "length",
        "origin",
        "parent",
        "turn",
        "version",
    )

    def __init__(
        self,
        id: int,
        parent: Segment | None,
        origin: Origin,
        tokens: Sequence[int],
        logprobs: Sequence[float] = (),
        version: str = "",
    ) -> None:
        self.id = id
        self.parent = parent
        self.origin = origin
        self._tokens = _packed(tokens)
        self._logprobs = array("f", logprobs).tobytes()  # what the engine computes in, half the memory of fp64
        self.version = sys.intern(version)  # the engine's weight version, for sampled segments
        self.length: int = len(tokens) + (parent.length if parent else 0)
        begins = origin is Origin.SAMPLED and (parent is None or parent.origin is Origin.GIVEN)
        self.turn: int = begins + (parent.turn if parent else 0)
        self.depth: int = parent.depth + 1 if parent else 0  # segments before this one
        self._json: bytes | None = None
        self._block: tuple[bytes, Segment | None] | None = None  # of every BLOCKth: JSON of so many, what they follow

    @property
    def added(self) -> int:
        """How many tokens this segment adds to its path: `len(tokens)`, at no cost."""
        return self.length - (self.parent.length if self.parent else 0)

    @property
    def tokens(self) -> memoryview[int]:
        """The tokens that this segment adds to its path."""
        return memoryview(self._tokens).cast("H" if len(self._tokens) == 2 * self.added else "I")

    @property
    def logprobs(self) -> memoryview[float]:
        """Of each of its tokens, where they were sampled; empty where they were given."""
        return memoryview(self._logprobs).cast("f")

    def path(self) -> Iterator[Segment]:
        """The segments from this one up to the root, newest first."""
        at: Segment | None = self
        while at is not None:
            yield at
            at = at.parent

    def ids(self) -> list[int]:
        """All tokens of the path, oldest first: what the engine is sent."""
        out: list[int] = []
        for segment in reversed(list(self.path())):
            out.extend(segment.tokens)
        return out

    def json(self) -> bytes:
        """`ids()` as a JSON array. Segments of long contexts are encoded once, so forks of a trunk only join bytes."""
        if self.length <= ENCODED_ANEW_TOKENS:
            return f"[{','.join(map(str, self.ids()))}]".encode()
        pieces: list[bytes] = [b"]"]
        at: Segment | None = self
        while at is not None:
            if at.depth % BLOCK == BLOCK - 1:
                piece, at = at._encoded_block()
            else:
                piece, at = at._encoded(), at.parent
            if piece:
                pieces += (piece, b",")
        pieces[-1] = b"["
        pieces.reverse()
        return b"".join(pieces)  # one copy: of half a megabyte, each other one would cost as much as all the rest

    def _encoded(self) -> bytes:
        if self._json is None:
            self._json = ",".join(map(str, self.tokens)).encode()
        return self._json

    def _encoded_block(self) -> tuple[bytes, Segment | None]:
        if self._block is None:
            segments = list(islice(self.path(), BLOCK))
            joined = b",".join([s._encoded() for s in reversed(segments) if s._tokens])
            for segment in segments:
                segment._json = None  # kept once: who forks from amid a block encodes what is before the cut again
            self._block = joined, segments[-1].parent
        return self._block

    def forget_json(self, until: Segment | None) -> None:
        """Drop the encoded ids of the path after `until`: whoever was sent them has ended. They can be made again."""
        for segment in self.path():
            if segment is until:
                return
            segment._json = segment._block = None

    def whole_turn(self) -> tuple[Segment | None, list[int]]:
        """For a sampled head: the given segment that its turn followed, and all the turn's tokens so far."""
        pieces: list[Segment] = []
        at: Segment | None = self
        while at is not None and at.origin is Origin.SAMPLED:
            pieces.append(at)
            at = at.parent
        return at, [token for piece in reversed(pieces) for token in piece.tokens]

    def checkpoint(self, turn: int) -> Segment | None:
        """The given segment on this path whose end is checkpoint `t<turn>`, or None if it has not been reached.

        After a rewind to it, that is the segment that holds the report: its past self as it is now.
        """
        for segment in self.path():
            if segment.turn == turn and segment.origin is Origin.GIVEN:
                return segment
        return None

    def shared_with(self, other: Segment | None) -> Segment | None:
        """The last segment that two paths have in common, None where there is none."""
        mine: Segment | None = self
        theirs = other
        while mine is not theirs:
            if mine is None or theirs is None:
                return None
            deeper = mine.depth - theirs.depth
            mine = mine.parent if deeper >= 0 else mine
            theirs = theirs.parent if deeper <= 0 else theirs
        return mine

    def __repr__(self) -> str:
        return f"Segment({self.id}, {self.origin}, +{self.added} = {self.length}, t{self.turn})"


def _packed(tokens: Sequence[int]) -> bytes:
    """Ids in two bytes each where all of them fit, as those of a small vocabulary do, else in four.

    Bytes, because a swarm has hundreds of thousands of short segments, and an array takes 50 bytes more.
    """
    try:
        return array("H", tokens).tobytes()
    except OverflowError:
        return array("I", tokens).tobytes()
