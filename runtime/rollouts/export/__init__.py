"""Rollouts for trainers and tools that others made: one small module a format, each named after who reads it.

Two kinds of format. *Rows* (`slime`, `verl`, `trl`) know one advantage each: a segment row is the whole path to an edge
with only the edge's own sampled tokens trained. *Graphs* (`verifiers`, `atif`, `native`) hold the tree itself, every
token once, what nobody trains on included. Invariants: tokens are copied, never made; a rollout that takes no part in
credit makes no row and is told of; an export needs the memory of one group. Reasons, and what each trainer must be
told: ADR 0016.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import msgspec

from runtime.rollouts.credit import ESTIMATORS
from runtime.rollouts.export import atif, native, slime, trl, verifiers, verl
from runtime.rollouts.export._batch import Batch, Decode, Line
from runtime.rollouts.export._source import groups
from runtime.rollouts.schema import Rollout

__all__ = ["FORMATS", "ROWS", "Batch", "Counts", "Line", "batches", "export", "lines"]

Format = Callable[[Batch], Iterator[Line | msgspec.Struct]]

ROWS: Mapping[str, Format] = MappingProxyType({"slime": slime.lines, "verl": verl.lines, "trl": trl.lines})
FORMATS: Mapping[str, Format] = MappingProxyType(
    {**ROWS, "verifiers": verifiers.lines, "atif": atif.lines, "native": native.lines}
)

_encoder = msgspec.json.Encoder()


class Counts(msgspec.Struct, kw_only=True):
    """What an export came to. `without`: rollouts that take no part in credit, by the reason."""

    rollouts: int = 0
    lines: int = 0
    without: dict[str, int] = {}


def batches(
    found: Iterable[list[Rollout]], credit: str, decode: Decode, complain: Callable[[str], None]
) -> Iterator[Batch]:
    """Groups with their credit and their numbers. A group that the estimator refuses is told to `complain`."""
    count = itertools.count()
    first = 0
    for number, group in enumerate(found):
        try:
            credits = ESTIMATORS[credit](group)
        except ValueError as error:
            complain(f"group {group[0].head.group!r}: {error}")
            continue
        yield Batch(number=number, first=first, count=count, rollouts=group, credits=credits, decode=decode)
        first += len(group)


def lines(
    to: str,
    group: Sequence[Rollout],
    *,
    credit: str = "segment",
    number: int = 0,
    first: int = 0,
    decode: Decode = lambda _: "",
) -> Iterator[Any]:
    """One group's lines in the format `to`, as objects, for a trainer that runs beside its rollouts.

    `number` is the group's, and `first` that of its first rollout, for formats that count. Raises ValueError for
    rollouts that are of two groups.
    """
    credits = ESTIMATORS[credit](group)
    batch = Batch(number=number, first=first, count=itertools.count(), rollouts=group, credits=credits, decode=decode)
    yield from FORMATS[to](batch)


def export(
    path: Path,
    to: str,
    file: BinaryIO,
    *,
    complain: Callable[[str], None],
    credit: str = "segment",
    decode: Decode = lambda _: "",
) -> Counts:
    """Write the rollouts of `path` in the format `to`, one JSON object a line.

    `decode` gives the texts of messages, which a rollout has as tokens only. Raises OSError.
    """
    counts = Counts()
    for batch in batches(groups(path, complain), credit, decode, complain):
        counts.rollouts += len(batch.rollouts)
        for one in batch.credits:
            if one.out:
                counts.without[one.out] = counts.without.get(one.out, 0) + 1
        for line in FORMATS[to](batch):
            file.write(_encoder.encode(line))
            file.write(b"\n")
            counts.lines += 1
    return counts
