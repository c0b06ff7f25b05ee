"""What every format is made from: one group with its credit, and the parts of an edge that are one message each.

Owns the *scales*. A trainer that divides by the tokens it trains divides by fewer where a shared prefix is trained
once, so a root that forks would learn faster or slower than one that does not. With M the trained tokens of a root's
rows, and N the weighted mean, over its leaves, of the trained tokens on a leaf's path,

    advantage in the row = coefficient x M / N,

so dividing by M is dividing by N, whatever rows a root was cut into; M / N is 1 for a root that never forked. (RL.md 8
names M over the flat count; with w = 1/K that is K N, which differs by the factor K and would make forks learn K times
slower.) A trainer that divides root by root takes a root's scale, one that divides by the batch the group's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from runtime.rollouts.credit import Credit
from runtime.rollouts.credit.shares import Span
from runtime.rollouts.schema import Edge, Rollout, Turn

__all__ = ["Batch", "Decode", "Line", "Run", "group_scale", "numbers", "root_scale", "runs", "worth"]

Line = Mapping[str, object]
Decode = Callable[[Sequence[int]], str]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One group. `number`: of the group within the export; `first`: of its first rollout; `count` numbers rows."""

    number: int
    first: int
    count: Iterator[int]
    rollouts: Sequence[Rollout]
    credits: Sequence[Credit]
    decode: Decode


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of an edge, from `start` to `end`, that are all sampled, in one turn, or all given."""

    start: int
    end: int
    sampled: bool
    turn: Turn | None


def runs(edge: Edge) -> list[Run]:
    """The parts of an edge, at least one: an edge without tokens is one empty given run."""
    length = len(edge.tokens)
    cuts = {0, length}.union(*((turn.start, turn.end) for turn in edge.turns))
    cuts.update(at for at in range(1, length) if edge.sampled[at] is not edge.sampled[at - 1])
    out = []
    turns = list(edge.turns)
    for start, end in pairwise(sorted(cuts)):
        while turns and turns[0].end <= start:
            turns.pop(0)
        sampled = edge.sampled[start]
        inside = sampled and bool(turns) and turns[0].start <= start
        out.append(Run(start=start, end=end, sampled=sampled, turn=turns[0] if inside else None))
    return out or [Run(start=0, end=0, sampled=False, turn=None)]


def numbers(versions: Sequence[str]) -> list[int]:
    """Those versions of weights that are whole numbers, as trainers count their steps; others say nothing to them."""
    return [int(one) for one in versions if one.isdecimal()]


def worth(edge: Edge, credit: Credit, spans: Mapping[int, Sequence[Span]]) -> list[float] | None:
    """What each token of an edge is worth; None where the edge takes no part. `spans`: of the credit, by edge."""
    if edge.id not in credit.edges:
        return None
    values = [credit.edges[edge.id]] * len(edge.tokens)
    for span in spans.get(edge.id, ()):
        values[span.start : span.end] = [one + span.coefficient for one in values[span.start : span.end]]
    return values


def root_scale(rollout: Rollout, credit: Credit) -> float:
    """M / N of one rollout."""
    trained, mean = _sizes(rollout, credit)
    return trained / mean if mean else 1.0


def group_scale(batch: Batch) -> float:
    """The sum of M over the sum of N of a group's rollouts."""
    sizes = [_sizes(*pair) for pair in zip(batch.rollouts, batch.credits, strict=True)]
    mean = sum(one for _, one in sizes)
    return sum(one for one, _ in sizes) / mean if mean else 1.0


def _sizes(rollout: Rollout, credit: Credit) -> tuple[int, float]:
    frozen = {member.id for member in rollout.head.members if not member.trainable}
    own: dict[int, int] = {}
    path: dict[int, int] = {}
    for edge in rollout.edges:
        own[edge.id] = 0 if edge.agent in frozen else sum(edge.sampled)
        path[edge.id] = own[edge.id] + (0 if edge.parent is None else path[edge.parent])
    weight = sum(share.weight for share in credit.shares)
    mean = sum(share.weight * path[share.edge] for share in credit.shares) / weight if weight else 0.0
    if not credit.whole:
        return sum(own[edge] for edge in credit.edges), mean
    by_id = {edge.id: edge for edge in rollout.edges}
    spans = sum(sum(by_id[one.edge].sampled[one.start : one.end]) for one in credit.spans)
    return sum(path[share.edge] for share in credit.shares) + spans, mean
