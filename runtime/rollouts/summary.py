"""What a collection came to, in figures: for the person who ran it.

Owns the count, in the memory of one number an attempt: which groups are dead as a whole can be said from these; of
what roles and at which forks, where whole groups are given (`add_group`). Invariants: an attempt that failed or has no
score is counted and is in no mean; the order in which attempts come changes nothing. Knows no files.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from runtime.rollouts.collect import GIVEN, ORDER, POSITION, SHUFFLED
from runtime.rollouts.credit import rewards
from runtime.rollouts.groups import SAME, Level, examine
from runtime.rollouts.schema import Rollout

__all__ = ["Summary", "reward_of", "slope", "tokens_of"]


def reward_of(rollout: Rollout) -> float | None:
    """What the root earned; None where that is not known: it failed, nothing graded it, or a term has no score."""
    head = rollout.head
    if head.error or not head.terms or not head.members:
        return None
    return rewards(head).get(head.members[0].id)


def tokens_of(rollout: Rollout) -> tuple[int, int]:
    """Its distinct tokens, and those of its leaves' contexts, each counted whole."""
    length: dict[int | None, int] = {None: 0}
    for edge in rollout.edges:  # parents come first
        length[edge.id] = length[edge.parent] + len(edge.tokens)
    return sum(len(edge.tokens) for edge in rollout.edges), sum(length[leaf.edge] for leaf in rollout.head.leaves)


def slope(points: Sequence[tuple[int, float]]) -> float | None:
    """By how much y grows with x, by least squares; None for fewer than two different x."""
    if len({x for x, _ in points}) < 2:
        return None
    mean_x, mean_y = (math.fsum(values) / len(points) for values in zip(*points, strict=True))
    across = math.fsum((x - mean_x) * (y - mean_y) for x, y in points)
    return across / math.fsum((x - mean_x) ** 2 for x, _ in points)


class Summary:
    """Counts rollouts."""

    def __init__(self) -> None:
        self.rollouts = 0
        self.failed = 0
        self.unique_tokens = 0
        self.flat_tokens = 0
        self.sampled_tokens = 0
        self._rewards: defaultdict[str, list[float | None]] = defaultdict(list)  # by group
        self.dead_roles: list[str] = []
        self.dead_forks = 0
        self._points: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)  # by order: position and reward

    def add(self, rollout: Rollout) -> None:
        """Count one."""
        head, reward = rollout.head, reward_of(rollout)
        unique, flat = tokens_of(rollout)
        self.rollouts += 1
        self.failed += bool(head.error)
        self.unique_tokens += unique
        self.flat_tokens += flat
        self.sampled_tokens += sum(sum(edge.sampled) for edge in rollout.edges)
        self._rewards[head.group].append(reward)
        if reward is not None and ORDER in head.info:
            self._points[head.info[ORDER]].append((int(head.info[POSITION]), reward))

    def add_group(self, group: Sequence[Rollout]) -> None:
        """Say what of a whole group is dead. Its rollouts are counted one by one, by `add`."""
        report = examine(group)
        self.dead_roles += [f"{report.group}: {dead.name}" for dead in report.dead if dead.level is Level.ROLE]
        self.dead_forks += sum(dead.level is Level.FORK for dead in report.dead)

    def figures(self) -> dict[str, object]:
        """Everything, as JSON takes it. A group is dead where two or more have a reward, and all the same."""
        known = {name: sorted(r for r in group if r is not None) for name, group in sorted(self._rewards.items())}
        out: dict[str, object] = {
            "rollouts": self.rollouts,
            "failed": self.failed,
            "unscored": sum(r is None for group in self._rewards.values() for r in group),
            "mean_reward": {name: _mean(group) for name, group in known.items()},
            "dead_groups": [name for name, group in known.items() if len(group) > 1 and group[-1] - group[0] <= SAME],
            "dead_roles": sorted(self.dead_roles),
            "dead_forks": self.dead_forks,
            "unique_tokens": self.unique_tokens,
            "flat_tokens": self.flat_tokens,
            "sampled_tokens": self.sampled_tokens,
        }
        if self._points:
            out["slope"] = {order: _rounded(slope(sorted(self._points[order]))) for order in (GIVEN, SHUFFLED)}
        return out


def _mean(values: Sequence[float]) -> float | None:
    return _rounded(math.fsum(values) / len(values)) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
