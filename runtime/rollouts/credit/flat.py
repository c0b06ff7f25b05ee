"""`independent` and `segment`: every leaf as a rollout of its own, and the same gradient with each token once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from runtime.rollouts.credit.attempts import Attempt, Stake, attempts
from runtime.rollouts.credit.shares import Credit, spread
from runtime.rollouts.credit.steps import steps
from runtime.rollouts.schema import Member, Rollout

__all__ = ["Role", "centred", "independent", "mean", "role_of", "segment"]

Role = Callable[[Member], str]

# A deviation this small, for its mean, is that of rounding: dividing by it would make ones of nothing.
ROUNDING = 1e-9


def role_of(member: Member) -> str:
    """What an agent calls its role; of one that has named none, how it came to be."""
    return member.role or member.kind


def segment(group: Sequence[Rollout], *, by: Role | None = None, std: bool = False) -> list[Credit]:
    """A coefficient for each edge: c = sum over the leaves below of w (R - b).

    w as in `attempts`; b is the mean over the group's roots of what each came to, so that the root with the most
    branches does not dominate its own baseline. Source: RL.md 3.0, 0.4 and 0.5; Tree Training, arXiv 2511.00413, for
    the sum; GRPO without its division for the baseline (Dr. GRPO, arXiv 2503.20783).

    `by`, for example `role_of`: R - b with b the mean over those roots that have the leaf's role, of what that role
    earned in each (Dr.MAS, arXiv 2602.08847). A role that only one leaf has is then compared with nothing, and gets 0.

    `std` divides by the standard deviation of the same population. It is off because a group that hardly differs is
    then blown up to the size of one that does, noise and all, and a small efficiency term to that of success:
    ThreadWeaver (arXiv 2512.07843) measured 74.8 with it and 79.9 without.
    """
    return _credits(group, by, std, whole=False)


def independent(group: Sequence[Rollout], *, by: Role | None = None, std: bool = False) -> list[Credit]:
    """A row for each leaf, its whole path, with w (R - b); all else as in `segment`, whose gradient it equals.

    Every token is trained as often as there are leaves below it. Kept as what `segment` is measured against.
    """
    return _credits(group, by, std, whole=True)


def _credits(group: Sequence[Rollout], by: Role | None, std: bool, whole: bool) -> list[Credit]:
    found = attempts(group)
    advantages = centred(found, by, std=std)
    return [
        spread(attempt, values, spans=spans, whole=whole)
        for attempt, values, spans in zip(found, advantages, steps(found), strict=True)
    ]


def centred(group: Sequence[Attempt], by: Role | None = None, *, std: bool = False) -> list[list[float]]:
    """R - b for each stake of each attempt: b of the stake's role, or of all. Roots weigh alike."""
    populations: dict[str, list[list[Stake]]] = defaultdict(list)
    for attempt in group:
        here: dict[str, list[Stake]] = defaultdict(list)
        for stake in attempt.stakes:
            here[by(stake.agent) if by else ""].append(stake)
        for role, stakes in here.items():
            populations[role].append(stakes)
    centres = {role: mean([_mean(stakes, 0.0, 1) for stakes in roots]) for role, roots in populations.items()}
    scales = dict.fromkeys(centres, 1.0)
    if std:
        for role, roots in populations.items():
            deviation = math.sqrt(mean([_mean(stakes, centres[role], 2) for stakes in roots]))
            scales[role] = deviation if deviation > ROUNDING * max(1.0, abs(centres[role])) else 0.0

    def advantage(stake: Stake) -> float:
        role = by(stake.agent) if by else ""
        return (stake.reward - centres[role]) / scales[role] if scales[role] else 0.0

    return [[advantage(stake) for stake in attempt.stakes] for attempt in group]


def mean(values: Sequence[float]) -> float:
    """Of at least one value, exactly rounded before it is divided."""
    return math.fsum(values) / len(values)


def _mean(stakes: Sequence[Stake], centre: float, power: int) -> float:
    total = math.fsum(stake.weight for stake in stakes)
    return math.fsum(stake.weight * (stake.reward - centre) ** power for stake in stakes) / total
