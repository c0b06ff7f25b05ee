"""What each agent of a rollout earned, who takes part in learning from it, and how much each leaf weighs.

The reward of an agent is the sum of weight times score over its own terms, and over the shared terms of itself and of
those it came from. Terms for a step are no part of it (see `steps`). A *helper* (a host fork, a reviewer) that no term
speaks of earns what the agent earned that it worked for: that is what its work was for.

What takes no part, and is never taken for a zero:
- a rollout with an `error` or that was `dropped`, whole; a replay (see `decision`), but for its decision;
- an agent with a term that could not be computed, or came to no finite number; if the term is shared, all below too;
- an agent that is not trained. Its reward stays known, because others may be judged by it.

A root weighs 1, shared evenly by its agents that take part; an agent that left paths behind (by a rewind or a
succession) has several leaves, which share its part evenly. So a root gains no weight by forking, nor an agent by
rewinding, and without paths left behind a leaf weighs one over the number of leaves. Knows no baseline.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from runtime.rollouts.schema import Head, Member, Rollout, Term

__all__ = ["HELPERS", "REPLAYS", "REPLAYS_DECISION", "Attempt", "Stake", "attempt", "attempts", "rewards", "worth"]

HELPERS = frozenset({"host", "review"})

# Keys of `Head.info` (see `decision.replaying`): this one went on from a decision of another, which was refused.
REPLAYS = "replays"
REPLAYS_DECISION = "replays_decision"


class Stake(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf that takes part: the edge that it ends, its agent, its part of the root's weight, and what it earned."""

    edge: int
    agent: Member
    weight: float
    reward: float
    abandoned: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as estimators see it. `rewards`: of all agents whose reward is known. `out`: why it takes no part."""

    rollout: Rollout
    stakes: tuple[Stake, ...] = ()
    rewards: dict[str, float] = {}
    out: str = ""

    @property
    def value(self) -> float:
        """What the root came to: the weighted mean of what its leaves earned."""
        return math.fsum(stake.weight * stake.reward for stake in self.stakes)


def attempts(group: Sequence[Rollout]) -> list[Attempt]:
    """The attempts of one group, in its order; replays among them take no part. Raises ValueError for two groups."""
    names = sorted({rollout.head.group for rollout in group})
    if len(names) > 1:
        raise ValueError(f"credit is given within one group, not across {names[0]!r} and {names[1]!r}")
    return [
        Attempt(rollout=one, out=f"replays {one.head.info[REPLAYS]}") if REPLAYS in one.head.info else attempt(one)
        for one in group
    ]


def attempt(rollout: Rollout) -> Attempt:
    """One rollout, by itself."""
    head = rollout.head
    if head.error or head.dropped:
        return Attempt(rollout=rollout, out=f"error: {head.error}" if head.error else f"dropped: {head.dropped}")
    earned = rewards(head)
    trained = {member.id: member for member in head.members if member.trainable and member.id in earned}
    leaves = [leaf for leaf in head.leaves if leaf.agent in trained]
    if not leaves:
        return Attempt(rollout=rollout, rewards=earned, out="no agent that is trained has a known reward")
    count = Counter(leaf.agent for leaf in leaves)
    stakes = tuple(
        Stake(
            edge=leaf.edge,
            agent=trained[leaf.agent],
            weight=1 / (len(count) * count[leaf.agent]),
            reward=earned[leaf.agent],
            abandoned=leaf.abandoned,
        )
        for leaf in leaves
    )
    return Attempt(rollout=rollout, stakes=stakes, rewards=earned)


def rewards(head: Head) -> dict[str, float]:
    """What each agent earned, without those of whom it is not known."""
    own: dict[str, list[float]] = defaultdict(list)
    shared: dict[str, list[float]] = defaultdict(list)
    for term in head.terms:
        if term.step is None:
            (shared if term.shared else own)[term.agent].append(worth(term))
    inherited: dict[str | None, float] = {}
    earned: dict[str | None, float] = {}
    for member in _parents_first(head.members):
        inherited[member.id] = inherited.get(member.parent, 0.0) + math.fsum(shared.get(member.id, ()))
        unspoken = member.id not in own and member.id not in shared
        if member.kind in HELPERS and unspoken and member.parent in earned:
            earned[member.id] = earned[member.parent]
        else:
            earned[member.id] = inherited[member.id] + math.fsum(own.get(member.id, ()))
    return {member.id: earned[member.id] for member in head.members if not math.isnan(earned[member.id])}


def worth(term: Term) -> float:
    """Weight times score; NaN, which no sum loses again, where there is no finite one."""
    value = math.nan if term.score is None else term.weight * term.score
    return value if math.isfinite(value) else math.nan


def _parents_first(members: Sequence[Member]) -> Iterator[Member]:
    by_id = {member.id: member for member in members}
    seen: set[str] = set()
    for member in members:
        chain: list[Member] = []
        at: Member | None = member
        while at is not None and at.id not in seen:
            seen.add(at.id)
            chain.append(at)
            at = None if at.parent is None else by_id.get(at.parent)
        yield from reversed(chain)
