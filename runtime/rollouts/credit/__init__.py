"""Credit: from what a group of attempts earned to what each of their tokens is worth.

Pure functions of a *group*, the rollouts that attempt one task, to one `Credit` each; `rows` then makes what a trainer
takes of them. Which estimator does what is in its own module; what all agree on, in `attempts` (what an agent earned,
who takes part, and how much each leaf weighs) and in `shares` (how leaves add up to edges). Reasons: ADR 0015.

Invariants of all estimators:
- the order of rollouts, members, leaves, terms and branches changes no bit of the outcome;
- each attempt that takes part weighs as much as any other, however often it forked (`rao` weighs depths instead);
- a rollout that takes no part has a credit too, which says why; what an agent that is not trained sampled is worth 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runtime.rollouts.credit.attempts import (
    HELPERS,
    REPLAYS,
    REPLAYS_DECISION,
    Attempt,
    Stake,
    attempt,
    attempts,
    rewards,
)
from runtime.rollouts.credit.decision import decision, replaying
from runtime.rollouts.credit.flat import Role, independent, role_of, segment
from runtime.rollouts.credit.rao import rao
from runtime.rollouts.credit.rows import Row, rows
from runtime.rollouts.credit.shares import Credit, Share, Span
from runtime.rollouts.credit.spec import spec_loo
from runtime.rollouts.credit.tree import tree
from runtime.rollouts.schema import Rollout

__all__ = [
    "ESTIMATORS",
    "HELPERS",
    "REPLAYS",
    "REPLAYS_DECISION",
    "Attempt",
    "Credit",
    "Role",
    "Row",
    "Share",
    "Span",
    "Stake",
    "attempt",
    "attempts",
    "decision",
    "independent",
    "rao",
    "replaying",
    "rewards",
    "role_of",
    "rows",
    "segment",
    "spec_loo",
    "tree",
]

ESTIMATORS: Mapping[str, Callable[[Sequence[Rollout]], list[Credit]]] = {
    "segment": segment,  # the default, therefore first
    "independent": independent,
    "tree": tree,
    "rao": rao,
    "spec_loo": spec_loo,
    "decision": decision,
}
