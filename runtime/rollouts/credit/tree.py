"""`tree`: a leaf against its own tree and against the group, or an edge against the edge that it branched off."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtime.rollouts.credit.attempts import Attempt, attempts
from runtime.rollouts.credit.flat import centred, mean
from runtime.rollouts.credit.shares import Credit, below, spread
from runtime.rollouts.credit.steps import steps
from runtime.rollouts.schema import Rollout

__all__ = ["tree"]


def tree(group: Sequence[Rollout], *, std: bool = False, against_parent: bool = False) -> list[Credit]:
    """Tree-GRPO: A = (R - mean of its tree) + (R - mean of the group), summed over the leaves below as in `segment`.

    Source: Tree-GRPO, arXiv 2509.21240. The paper divides each difference by its standard deviation; `std` does, and
    is off for the reason given in `segment`. The group's mean is that of roots, not of leaves.

    `against_parent`: c = m (V(edge) - V(parent)), where V is the weighted mean reward of the leaves below and m their
    weight, so what a branch is worth is judged among its siblings alone, and the first edge of a context against the
    group (the differences of TreeRL, arXiv 2506.11902; its division by the square root of the number of leaves is
    what weights do here). Coefficients are then not the sums of leaves' advantages.
    """
    found = attempts(group)
    whole_group = centred(found, std=std)
    spans = steps(found)
    if against_parent:
        values = [attempt.value for attempt in found if attempt.stakes]
        baseline = mean(values) if values else 0.0
        return [
            spread(attempt, advantages, edges=_differences(attempt, baseline), spans=some)
            for attempt, advantages, some in zip(found, whole_group, spans, strict=True)
        ]
    own_tree = [centred([attempt], std=std)[0] for attempt in found]
    return [
        spread(attempt, [math.fsum(pair) for pair in zip(inner, outer, strict=True)], spans=some)
        for attempt, inner, outer, some in zip(found, own_tree, whole_group, spans, strict=True)
    ]


def _differences(attempt: Attempt, baseline: float) -> dict[int, float]:
    edges = attempt.rollout.edges
    masses = below(edges, ((stake.edge, stake.weight) for stake in attempt.stakes))
    totals = below(edges, ((stake.edge, stake.weight * stake.reward) for stake in attempt.stakes))
    out: dict[int, float] = {}
    for edge in edges:
        if edge.id in masses:
            above = baseline if edge.parent is None else totals[edge.parent] / masses[edge.parent]
            out[edge.id] = totals[edge.id] - masses[edge.id] * above
    return out
