"""Dead groups: where every attempt earned the same, so that nothing can be learned from the difference.

Owns what a report on a group says: who takes part, where the group is dead (as a whole, for a role, at a point where
a tree branched), and what could revive it. Only reports and proposes: it drops nothing and runs nothing (`midway` plans
attempts from its points, which `collect` carries out).

Two ways to revive a group. A *further term*: something that differs between its attempts and is not counted, or not so
that it shows. Beware of terms for efficiency, which teach a group that always fails to fail quickly: gate them by
success. *Forking again*, from a point after which some succeeded and some did not, nearest one half first, within a
budget of tokens (Prefix Sampling, arXiv 2605.05112).
"""

from __future__ import annotations

import enum
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import structs

from runtime.rollouts.credit import Attempt, Role, attempts, role_of
from runtime.rollouts.schema import Rollout

__all__ = [
    "MEASURES",
    "Again",
    "Dead",
    "ForkPoint",
    "Group",
    "Level",
    "Splitter",
    "by_group",
    "examine",
    "fork_again",
    "lines",
]

# Rewards closer than this are the same: sums of few terms in another order, not differences that anybody meant.
SAME = 1e-9


def _sampled(rollout: Rollout) -> float:
    return float(sum(sum(edge.sampled) for edge in rollout.edges))


def _turns(rollout: Rollout) -> float:
    return float(sum(len(edge.turns) for edge in rollout.edges))


# What every rollout can be measured by without running anything again.
MEASURES: Mapping[str, Callable[[Rollout], float]] = {
    "sampled_tokens": _sampled,
    "turns": _turns,
    "agents": lambda rollout: float(len(rollout.head.members)),
}


class Level(enum.StrEnum):
    """Of what it is that all earned the same."""

    TASK = "task"  # the group's roots
    ROLE = "role"  # the agents of a role, over at least two attempts
    FORK = "fork"  # the leaves below a point where one tree branched


class _Frozen(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Dead(_Frozen, frozen=True, kw_only=True):
    """`count` attempts (of a fork: leaves) that all earned `reward`. `name`: the role, or `rollout:edge`."""

    level: Level
    name: str
    count: int
    reward: float


class Splitter(_Frozen, frozen=True, kw_only=True):
    """Something that differs between the attempts: a term's name or a measure's, and its standard deviation.

    `counted` is false for what has had no weight so far.
    """

    name: str
    spread: float
    values: int
    counted: bool


class ForkPoint(_Frozen, frozen=True, kw_only=True):
    """The end of an edge after which the part `success` of `leaves` leaves succeeded.

    `tokens`: what a copy from here has sampled on average.
    """

    rollout: str
    edge: int
    agent: str
    success: float
    leaves: int
    tokens: int


class Again(_Frozen, frozen=True, kw_only=True):
    """A point to fork again from, in so many copies, at an estimated cost in sampled tokens."""

    point: ForkPoint
    copies: int
    tokens: int


class Group(_Frozen, frozen=True, kw_only=True):
    """The report on one group.

    `attempts` take part and came to `values`; `out` counts those that do not, by reason; `unscored` are agents of
    attempts that take part whose reward is not known. `splitters` and `forks` are proposals, best first, made only
    where something is dead; where both are empty, nothing here can revive it, and the task is too easy or too hard.
    """

    group: str
    task: str
    attempts: int
    values: tuple[float, ...]
    out: dict[str, int] = {}
    unscored: int = 0
    dead: tuple[Dead, ...] = ()
    splitters: tuple[Splitter, ...] = ()
    forks: tuple[ForkPoint, ...] = ()


def by_group(rollouts: Iterable[Rollout]) -> dict[str, list[Rollout]]:
    """Rollouts by their group, in the order of each group's first."""
    out: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        out.setdefault(rollout.head.group, []).append(rollout)
    return out


def examine(
    group: Sequence[Rollout],
    *,
    by: Role = role_of,
    success: float = 0.5,
    measures: Mapping[str, Callable[[Rollout], float]] = MEASURES,
) -> Group:
    """The report on the rollouts of one group, of which there is at least one. A leaf succeeds above `success`.

    Where no attempt has a term nothing was graded, and nothing is dead; where some have, the others earned 0.

    Raises ValueError for several groups.
    """
    found = attempts(group)
    if not any(one.head.terms for one in group):
        found = [structs.replace(one, stakes=(), out=one.out or "not graded") for one in found]
    taking = [one for one in found if one.stakes]
    dead = [*_dead_task(taking), *_dead_roles(taking, by), *_dead_forks(taking)]
    splitting = any(one.level is Level.TASK for one in dead)
    return Group(
        group=group[0].head.group,
        task=group[0].head.task,
        attempts=len(taking),
        values=tuple(sorted(one.value for one in taking)),
        out=dict(sorted(Counter(one.out for one in found if one.out).items())),
        unscored=sum(len(one.rollout.head.members) - len(one.rewards) for one in taking),
        dead=tuple(dead),
        splitters=tuple(_splitters([one.rollout for one in taking], measures)) if splitting else (),
        forks=tuple(sorted(_fork_points(taking, success), key=_preference)) if dead else (),
    )


def fork_again(
    points: Iterable[ForkPoint], *, budget_tokens: int, copies: int = 4, least: int = 1
) -> tuple[list[Again], list[ForkPoint]]:
    """What the budget pays for, best points first, and the points that it does not reach, for `least` copies."""
    plan: list[Again] = []
    left: list[ForkPoint] = []
    for point in sorted(points, key=_preference):
        affordable = min(copies, budget_tokens // max(1, point.tokens))
        if affordable < max(1, least):
            left.append(point)
            continue
        plan.append(Again(point=point, copies=affordable, tokens=affordable * point.tokens))
        budget_tokens -= affordable * point.tokens
    return plan, left


def lines(report: Group) -> list[str]:
    """The report for a person: what is dead, and what could be done."""
    counted = ", ".join(f"{count} {reason}" for reason, count in report.out.items())
    left_out = f"; left out: {counted}" if counted else ""
    out = [f"{report.group} ({report.task}): {report.attempts} attempts{left_out}"]
    for dead in report.dead:
        what = {Level.TASK: "attempts", Level.ROLE: f"attempts of {dead.name}", Level.FORK: f"leaves below {dead.name}"}
        out.append(f"  dead {dead.level}: all {dead.count} {what[dead.level]} earned {dead.reward:g}")
    out += [
        f"  {term.name} differs (deviation {term.spread:.3g}){'' if term.counted else ', and has no weight'}"
        for term in report.splitters
    ]
    for point in report.forks:
        where = f"{point.rollout}:{point.edge} ({point.agent})"
        out.append(
            f"  fork again at {where}: {point.success:.0%} of {point.leaves} leaves, {point.tokens} tokens a copy"
        )
    if report.dead and not report.splitters and not report.forks:
        out.append("  nothing recorded could revive it")
    return out


def _preference(point: ForkPoint) -> tuple[float, int, int, str, int]:
    """Nearest one half; then where that is best known; then cheapest."""
    return abs(point.success - 0.5), -point.leaves, point.tokens, point.rollout, point.edge


def _same(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= SAME


def _dead_task(taking: Sequence[Attempt]) -> Iterator[Dead]:
    values = [one.value for one in taking]
    if values and _same(values):
        yield Dead(level=Level.TASK, name="", count=len(values), reward=min(values))


def _dead_roles(taking: Sequence[Attempt], by: Role) -> Iterator[Dead]:
    roles: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for one in taking:
        for stake in one.stakes:
            roles[by(stake.agent)].append((one.rollout.head.id, stake.reward))
    for role, earned in sorted(roles.items()):
        count = len({rollout for rollout, _ in earned})
        rewards = [reward for _, reward in earned]
        if count > 1 and _same(rewards):
            yield Dead(level=Level.ROLE, name=role, count=count, reward=min(rewards))


def _dead_forks(taking: Sequence[Attempt]) -> Iterator[Dead]:
    for one in taking:
        for edge, below in sorted(_Below.of(one).items()):
            if below.branches > 1 and below.highest - below.lowest <= SAME:
                name = f"{one.rollout.head.id}:{edge}"
                yield Dead(level=Level.FORK, name=name, count=below.leaves, reward=below.lowest)


def _fork_points(taking: Sequence[Attempt], success: float) -> Iterator[ForkPoint]:
    for one in taking:
        agents = {edge.id: edge.agent for edge in one.rollout.edges}
        for edge, below in _Below.of(one, success).items():
            if below.branches > 1 and 0 < below.succeeded < below.leaves:
                yield ForkPoint(
                    rollout=one.rollout.head.id,
                    edge=edge,
                    agent=agents[edge],
                    success=below.succeeded / below.leaves,
                    leaves=below.leaves,
                    tokens=round(below.tokens / below.leaves),
                )


class _Below:
    """What lies below the end of an edge: leaves, how many succeeded, and the tokens sampled on the way to each."""

    __slots__ = ("branches", "highest", "leaves", "lowest", "succeeded", "tokens")

    def __init__(self) -> None:
        self.branches = self.leaves = self.succeeded = self.tokens = 0
        self.lowest, self.highest = math.inf, -math.inf

    @staticmethod
    def of(attempt: Attempt, success: float = 0.5) -> dict[int, _Below]:
        """For each edge that has leaves below it."""
        out: dict[int, _Below] = {}
        for stake in attempt.stakes:
            if stake.abandoned:  # it earned what the same agent's other leaf did, so it tells nothing of the point
                continue
            at = out.setdefault(stake.edge, _Below())
            at.leaves += 1
            at.succeeded += stake.reward > success
            at.lowest, at.highest = min(at.lowest, stake.reward), max(at.highest, stake.reward)
        for edge in reversed(attempt.rollout.edges):  # parents come first
            here = out.get(edge.id)
            if here is None or edge.parent is None:
                continue
            above = out.setdefault(edge.parent, _Below())
            above.branches += 1
            above.leaves += here.leaves
            above.succeeded += here.succeeded
            above.tokens += here.tokens + here.leaves * sum(edge.sampled)
            above.lowest, above.highest = min(above.lowest, here.lowest), max(above.highest, here.highest)
        return out


def _splitters(rollouts: Sequence[Rollout], measures: Mapping[str, Callable[[Rollout], float]]) -> list[Splitter]:
    """Terms first, then measures; those that differ most for their size first."""
    scores: dict[str, list[float]] = defaultdict(list)
    counted: Counter[str] = Counter()
    for rollout in rollouts:
        here: dict[str, list[float]] = defaultdict(list)
        for term in rollout.head.terms:
            here[term.name].append(math.nan if term.score is None else term.score)
            counted[term.name] += term.weight != 0
        for name, values in here.items():
            if math.isfinite(total := math.fsum(values)):
                scores[name].append(total)
    terms = [_splitter(name, values, bool(counted[name])) for name, values in sorted(scores.items())]
    measured = [_splitter(name, [measure(one) for one in rollouts], False) for name, measure in measures.items()]
    return [one for part in (terms, measured) for one in sorted(part, key=lambda one: -one.spread) if one.spread > SAME]


def _splitter(name: str, values: Sequence[float], counted: bool) -> Splitter:
    return Splitter(name=name, spread=statistics.pstdev(values), values=len(set(values)), counted=counted)
