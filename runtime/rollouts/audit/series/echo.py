"""The echo trap: over training, whatever is asked, the answers become the same template.

Each rollout is a sketch of its sampled text: the smallest hashes of its word triples, numbers made equal. Per step the
mean similarity (Jaccard, from the sketches) of rollouts of *different* prompts is compared between the beginning and
the end of the series: attempts at one prompt are alike for good reasons, and so are all tool calls, from the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from heapq import nsmallest
from itertools import combinations
from statistics import fmean
from zlib import crc32

from runtime.rollouts.audit.finding import Row, Severity
from runtime.rollouts.audit.series.watcher import LEAST_STEPS, by_step, step_of, window
from runtime.rollouts.audit.transcript import Kind, Transcript

__all__ = ["EchoTrap", "similarity", "sketch"]

_HASHES = 64  # of a sketch: the similarity of two is then off by some 0.06
_KEPT = 32  # sketches a step, the same ones in whatever order they come
_WORD = re.compile(r"\w+|[^\w\s]")
_HIGH, _RISE = 0.6, 0.25  # how similar is a collapse, and how much more than it was at first

Sketch = frozenset[int]


def sketch(texts: list[str]) -> Sketch:
    """The smallest hashes of the word triples of some texts, digits all zero."""
    hashes: set[int] = set()
    for text in texts:
        words = ["0" if word[0].isdigit() else word for word in _WORD.findall(text)]
        hashes.update(crc32(" ".join(triple).encode()) for triple in zip(words, words[1:], words[2:], strict=False))
    return frozenset(nsmallest(_HASHES, hashes))


def similarity(one: Sketch, other: Sketch) -> float:
    """About how much of all their triples two texts share, 0 to 1."""
    union = nsmallest(_HASHES, one | other)
    return sum(value in one and value in other for value in union) / len(union) if union else 0.0


class EchoTrap:
    """See the module. Keeps a bounded sample of sketches a step, chosen by the rollouts' ids."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[int, tuple[str, Sketch]]] = {}

    def observe(self, transcript: Transcript) -> None:
        """See Watcher."""
        head = transcript.head
        kept = self._steps.setdefault(step_of(transcript), {})
        ticket = crc32(head.id.encode())
        if len(kept) >= _KEPT and ticket >= max(kept):
            return
        kept[ticket] = (head.prompt, sketch([event.text for event in transcript.events(Kind.SAID)]))
        if len(kept) > _KEPT:
            del kept[max(kept)]

    def rows(self) -> Iterator[Row]:
        """See Watcher."""
        alike = {step: mean for step in by_step(self._steps) if (mean := _alike(self._steps[step])) is not None}
        if len(alike) < LEAST_STEPS:
            return
        steps, means = list(alike), list(alike.values())
        size = window(len(steps))
        first, last = fmean(means[:size]), fmean(means[-size:])
        if last >= _HIGH and last - first >= _RISE:
            quote = (
                f"from step {steps[0] or '-'} to {steps[-1] or '-'} answers to different prompts became alike: "
                f"similarity {first:.2f} to {last:.2f}"
            )
            yield Row(class_="echo_trap", severity=Severity.HIGH.name.lower(), quote=quote)


def _alike(kept: dict[int, tuple[str, Sketch]]) -> float | None:
    pairs = [
        similarity(one, other)
        for (prompt, one), (another, other) in combinations(kept.values(), 2)
        if prompt != another
    ]
    return fmean(pairs) if pairs else None
