"""`rao`: recursive agents, each judged by its own reward and by how well those it delegated to did."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from runtime.rollouts.credit.attempts import HELPERS, Attempt, attempts
from runtime.rollouts.credit.flat import mean
from runtime.rollouts.credit.shares import Credit, spread
from runtime.rollouts.credit.steps import steps
from runtime.rollouts.schema import Rollout

__all__ = ["BONUS", "rao"]

BONUS = 0.4  # lambda of the paper's worked example


def rao(group: Sequence[Rollout], *, bonus: float = BONUS) -> list[Credit]:
    """r = R + bonus * mean of the children's R; A = r - b; weight of an agent = T / (D * agents at its depth).

    b is the mean of what the *other* attempts' root agents got, the same for all agents of an attempt; an attempt
    that has no other gets 0. A child counts with its plain R, so that nothing compounds over generations; helpers are
    nobody's children here. T attempts and D depths: every depth weighs alike in the group, as in the paper, and the
    group as much as with other estimators; single roots do not. R is the agent's reward as everywhere here: to follow
    the paper, score each agent by own terms. Never divided by a deviation.

    A constant added to all rewards does not cancel: those with children count it (1 + bonus) times.

    Source: RAO, arXiv 2605.06639, by the formulas of an open re-implementation (RL.md 3; its worked example is a test).
    """
    found = attempts(group)
    with_bonus = [_with_bonus(attempt, bonus) for attempt in found]
    roots = [_root(attempt, got) for attempt, got in zip(found, with_bonus, strict=True)]
    depths = Counter(
        depth for attempt in found for _, depth in {(stake.agent.id, stake.agent.depth) for stake in attempt.stakes}
    )
    taking_part = sum(bool(attempt.stakes) for attempt in found)
    credits: list[Credit] = []
    for number, (attempt, got, spans) in enumerate(zip(found, with_bonus, steps(found), strict=True)):
        others = [root for other, root in enumerate(roots) if other != number and root is not None]
        leaves = Counter(stake.agent.id for stake in attempt.stakes)
        weights = [
            taking_part / (len(depths) * depths[stake.agent.depth] * leaves[stake.agent.id]) for stake in attempt.stakes
        ]
        advantages = [got[stake.agent.id] - mean(others) if others else 0.0 for stake in attempt.stakes]
        credits.append(spread(attempt, advantages, weights=weights, spans=spans))
    return credits


def _with_bonus(attempt: Attempt, bonus: float) -> dict[str, float]:
    children: dict[str, list[float]] = defaultdict(list)
    for member in attempt.rollout.head.members:
        if member.parent is not None and member.kind not in HELPERS and member.id in attempt.rewards:
            children[member.parent].append(attempt.rewards[member.id])
    return {
        agent: math.fsum((reward, bonus * mean(children[agent]))) if agent in children else reward
        for agent, reward in attempt.rewards.items()
    }


def _root(attempt: Attempt, got: dict[str, float]) -> float | None:
    """What the root agent got; None where the attempt takes no part or it is not known."""
    roots = [member.id for member in attempt.rollout.head.members if member.parent is None]
    return next((got[one] for one in roots if one in got), None) if attempt.stakes else None
