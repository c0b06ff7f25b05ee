"""The native format, JSON lines of `runtime.rollouts.schema`: whole rollouts, whatever their credit."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from runtime.rollouts.export._batch import Batch, Line
from runtime.rollouts.schema import End

__all__ = ["lines"]


def lines(batch: Batch) -> Iterator[Line | msgspec.Struct]:
    """The records of a group's rollouts."""
    for rollout in batch.rollouts:
        yield rollout.head
        yield from rollout.edges
        yield End(id=rollout.head.id, edges=len(rollout.edges))
