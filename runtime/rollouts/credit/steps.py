"""Terms of a reward that are for one step, one turn of an agent: they credit that turn, and nothing else.

With x the sum of weight times score over the terms of a turn (0 where there is none, as a turn without a penalty had
none), a turn's tokens get, beside the coefficient of their edge,

    m (x - mean x),        m: the weight of the leaves below the edge; the mean over a root's turns, then over roots.

Why not what follows: a later token cannot have caused it. Why not what came before, as rewards to go would: a term
for a step is a judgement of that step; what is to reach further belongs into a term for an outcome. A turn with a term
that could not be computed is left out. Source: step rewards beside that of the episode, each compared within its
group, as in GiGPO (arXiv 2505.10978); its groups are states that recur, ours all turns of the attempts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from runtime.rollouts.credit.attempts import Attempt, worth
from runtime.rollouts.credit.shares import Span, below
from runtime.rollouts.schema import Edge

__all__ = ["steps"]


def steps(group: Sequence[Attempt]) -> list[list[Span]]:
    """For each attempt what its turns get; nothing at all where the group has no terms for steps."""
    if not any(term.step is not None for attempt in group for term in attempt.rollout.head.terms):
        return [[] for _ in group]
    found = [_turns(attempt) for attempt in group]
    means = [math.fsum(x for *_, x in turns) / len(turns) for turns in found if turns]
    centre = math.fsum(means) / len(means) if means else 0.0
    return [
        [
            Span(edge=edge.id, start=edge.turns[turn].start, end=edge.turns[turn].end, coefficient=mass * (x - centre))
            for edge, turn, mass, x in turns
            if x != centre
        ]
        for turns in found
    ]


def _turns(attempt: Attempt) -> list[tuple[Edge, int, float, float]]:
    """The turns of those who are trained: edge, index, weight of the leaves below, and x."""
    head = attempt.rollout.head
    masses = below(attempt.rollout.edges, ((stake.edge, stake.weight) for stake in attempt.stakes))
    frozen = {member.id for member in head.members if not member.trainable}
    scores: dict[tuple[int, int], list[float]] = defaultdict(list)
    for term in head.terms:
        if term.step is not None:
            scores[term.step].append(worth(term))
    turns = [
        (edge, turn, masses[edge.id], math.fsum(scores.get((edge.id, turn), ())))
        for edge in attempt.rollout.edges
        if edge.id in masses and edge.agent not in frozen
        for turn in range(len(edge.turns))
    ]
    return [one for one in turns if not math.isnan(one[3])]
