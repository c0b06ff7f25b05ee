"""What a collection came to, in figures: for the person who ran it.

Owns the count, in the memory of one number an attempt: which groups are dead as a whole can be said from these; of
what roles and at which forks, where whole groups are given (`add_group`). Invariants: an attempt that failed or has no
score is counted and is in no mean; one without terms earned 0 where another of its group has some (a sum of nothing),
and is not graded where none has; attempts that went on from others, or that were given a part of their input, are
counted apart, and what was given back is no token of theirs; the order in which attempts come changes nothing. Knows no
files.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from runtime.rollouts.collect import GIVEN, GIVEN_BACK, ORDER, POSITION, SHUFFLED
from runtime.rollouts.credit import REPLAYS, REPLAYS_DECISION, attempt, rewards
from runtime.rollouts.groups import SAME, Level, examine
from runtime.rollouts.midway import REVIVES, Left
from runtime.rollouts.partial import INPUT, Leaks
from runtime.rollouts.schema import Rollout

__all__ = ["Summary", "reward_of", "slope", "tokens_of", "value_of"]


def reward_of(rollout: Rollout) -> float | None:
    """What the root earned; None where that is not known: it failed, or a term has no score. Without terms it is 0."""
    head = rollout.head
    return None if head.error or not head.members else rewards(head).get(head.members[0].id)


def value_of(rollout: Rollout) -> float | None:
    """What the attempt is worth to those who learn from it: the weighted mean over its leaves; None where not known.

    It is the root's reward where all terms are shared by all.
    """
    one = attempt(rollout)
    return one.value if one.stakes else None


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


class _Earned(NamedTuple):
    """What an attempt of a group earned, if that group is graded and it is known."""

    group: str
    reward: float | None


class Summary:
    """Counts rollouts."""

    def __init__(self) -> None:
        self.rollouts = 0
        self.failed = 0
        self.unique_tokens = 0
        self.flat_tokens = 0
        self.sampled_tokens = 0
        self._graded: set[str] = set()  # groups in which an attempt has terms
        self._rewards: defaultdict[str, list[_Earned]] = defaultdict(list)  # of roots, by group
        self._values: defaultdict[str, list[_Earned]] = defaultdict(list)  # of attempts, by group
        self.dead_roles: list[str] = []
        self.dead_forks = 0
        self._replays: defaultdict[tuple[str, str], list[_Earned]] = defaultdict(list)  # by rollout and decision
        self._revived: defaultdict[str, list[_Earned]] = defaultdict(list)  # by point
        self._leaks = Leaks()
        self._left: dict[str, list[Left]] = {}
        self._points: defaultdict[str, list[tuple[int, _Earned]]] = defaultdict(list)  # by order: position and reward

    def add(self, rollout: Rollout) -> None:
        """Count one."""
        head = rollout.head
        reward, value = _Earned(head.group, reward_of(rollout)), _Earned(head.group, value_of(rollout))
        unique, flat = tokens_of(rollout)
        self.rollouts += 1
        self.failed += bool(head.error)
        self.unique_tokens += unique
        self.flat_tokens += flat
        self.sampled_tokens += sum(sum(edge.sampled) for edge in rollout.edges) - int(head.info.get(GIVEN_BACK, 0))
        if head.terms:
            self._graded.add(head.group)
        if REPLAYS in head.info:
            self._replays[head.info[REPLAYS], head.info[REPLAYS_DECISION]].append(value)
            return
        if REVIVES in head.info:
            self._revived[head.info[REVIVES]].append(value)
            return
        self._leaks.add(rollout)
        if INPUT in head.info:
            return
        self._rewards[head.group].append(reward)
        self._values[head.group].append(value)
        if ORDER in head.info:
            self._points[head.info[ORDER]].append((int(head.info[POSITION]), reward))

    def add_group(self, group: Sequence[Rollout]) -> None:
        """Say what of a whole group is dead. Its rollouts are counted one by one, by `add`."""
        report = examine(group)
        self.dead_roles += [f"{report.group}: {dead.name}" for dead in report.dead if dead.level is Level.ROLE]
        self.dead_forks += sum(dead.level is Level.FORK for dead in report.dead)

    def leave(self, what: str, left: Sequence[Left]) -> None:
        """Say what was not gone on from: `what` is `replays` or `revived`."""
        self._left.setdefault(what, []).extend(left)

    def figures(self) -> dict[str, object]:
        """Everything, as JSON takes it. A group is dead where two or more have a value, and all the same."""
        out: dict[str, object] = {
            "rollouts": self.rollouts,
            "failed": self.failed,
            "unscored": self._unknown(self._rewards.values()),
            "mean_reward": {name: _mean(self._known(group)) for name, group in sorted(self._rewards.items())},
            "dead_groups": [name for name, group in sorted(self._values.items()) if _dead(self._known(group))],
            "dead_roles": sorted(self.dead_roles),
            "dead_forks": self.dead_forks,
            "unique_tokens": self.unique_tokens,
            "flat_tokens": self.flat_tokens,
            "sampled_tokens": self.sampled_tokens,
        }
        if self._points:
            out["slope"] = {order: _rounded(slope(self._known_points(order))) for order in (GIVEN, SHUFFLED)}
        if self._replays or "replays" in self._left:
            out["replays"] = {
                "decisions": len(self._replays),
                "mean_value": {
                    f"{one} {at}": _mean(self._known(got)) for (one, at), got in sorted(self._replays.items())
                },
                **self._counted(self._replays.values(), self._left.get("replays", ())),
            }
        if self._revived or "revived" in self._left:
            out["revived"] = {
                "values": {point: self._known(got) for point, got in sorted(self._revived.items())},
                "still_dead": [point for point, got in sorted(self._revived.items()) if _dead(self._known(got))],
                **self._counted(self._revived.values(), self._left.get("revived", ())),
            }
        if (partial := self._leaks.figures()) is not None:
            out["partial"] = partial
        return out

    def _known(self, earned: Iterable[_Earned]) -> list[float]:
        return sorted(one.reward for one in earned if one.reward is not None and one.group in self._graded)

    def _known_points(self, order: str) -> list[tuple[int, float]]:
        return sorted((at, reward) for at, one in self._points[order] for reward in self._known([one]))

    def _unknown(self, groups: Iterable[Sequence[_Earned]]) -> int:
        return sum(len(group) - len(self._known(group)) for group in groups)

    def _counted(self, groups: Collection[Sequence[_Earned]], left: Sequence[Left]) -> dict[str, object]:
        why = {one.point: one.why for one in left}
        return {"attempts": sum(map(len, groups)), "unscored": self._unknown(groups), "left": why}


def _dead(known: Sequence[float]) -> bool:
    """Whether two or more have a reward, and all the same."""
    return len(known) > 1 and known[-1] - known[0] <= SAME


def _mean(values: Sequence[float]) -> float | None:
    return _rounded(math.fsum(values) / len(values)) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
