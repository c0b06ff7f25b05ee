"""`decision`: was it right to fork there? Asked of continuations in which the fork was refused."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from runtime.rollouts.credit.attempts import REPLAYS, REPLAYS_DECISION, Attempt, attempt, attempts
from runtime.rollouts.credit.flat import mean
from runtime.rollouts.credit.shares import Credit, Span, below, spread
from runtime.rollouts.schema import Edge, Rollout

__all__ = ["call_of", "decision", "replaying"]

# A decision: the edge in which it was made, and where in its tokens.
Call = tuple[int, int, int]


def decision(group: Sequence[Rollout], *, cost: float = 0.0, base: Sequence[Credit] | None = None) -> list[Credit]:
    """A = mean R of the branches - mean R of the replays - cost, for the tokens of the decision to fork and no other.

    A replay is a rollout of the same group that went on from the decision with the fork refused (`midway.replays` plans
    them, `collect` makes them): `Head.info` says of which one, as `replaying` writes it. It is worth the weighted mean
    of what its leaves earned; the branches are worth the same over all leaves below the edge that decided (the agent
    that forked goes on there) and below the edges that the decision made elsewhere: post hoc, at an earlier checkpoint,
    or as newcomers. The span gets m A, where m is the weight of all those leaves. `cost` is what a fork must gain, in
    units of reward. Without replays it gets nothing.

    By itself everything else is worth 0. With `base`, the credits of another estimator for the same group, everything
    else is as there, and on the span this takes the place of the edge's coefficient: the same success, measured better.

    Source: RL.md 3.0; C3 (arXiv 2603.06859) compares alternatives of a message in the same way.
    """
    found = attempts(group)
    if base is None:
        base = [spread(one, [0.0] * len(one.stakes)) for one in found]
    refused = _replays(group)
    return [
        msgspec.structs.replace(
            credit, spans=credit.spans + tuple(_spans(one, refused.get(one.rollout.head.id, {}), cost, credit))
        )
        for one, credit in zip(found, base, strict=True)
    ]


def replaying(rollout: str, edge: int, start: int) -> dict[str, str]:
    """The `Head.info` of a replay: of which rollout, and the edge and first token of the decision that was refused."""
    return {REPLAYS: rollout, REPLAYS_DECISION: f"{edge}:{start}"}


def call_of(edge: Edge) -> Call | None:
    """The tokens whose call made an edge, where a turn did."""
    if edge.decision is not None and edge.parent is not None:
        return edge.parent, *edge.decision
    return edge.decided


def _replays(group: Sequence[Rollout]) -> dict[str, dict[tuple[int, int], list[float]]]:
    """What replays came to, by rollout and decision. Raises ValueError for one that names none."""
    out: dict[str, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for rollout in group:
        info = rollout.head.info
        if REPLAYS not in info:
            continue
        edge, _, start = info.get(REPLAYS_DECISION, "").partition(":")
        if not (edge.isdecimal() and start.isdecimal()):
            raise ValueError(f"rollout {rollout.head.id!r}: info.{REPLAYS_DECISION}: names no decision, `edge:token`")
        replay = attempt(rollout)
        if replay.stakes:
            out[info[REPLAYS]][int(edge), int(start)].append(replay.value)
    return out


def _spans(one: Attempt, refused: dict[tuple[int, int], list[float]], cost: float, base: Credit) -> Iterator[Span]:
    if not refused:
        return
    rollout = one.rollout
    masses = below(rollout.edges, ((stake.edge, stake.weight) for stake in one.stakes))
    totals = below(rollout.edges, ((stake.edge, stake.weight * stake.reward) for stake in one.stakes))
    trained = {member.id for member in rollout.head.members if member.trainable}
    owners = {edge.id: edge.agent for edge in rollout.edges}
    elsewhere: dict[Call, list[int]] = defaultdict(list)
    for edge in rollout.edges:
        if edge.kind in ("fork", "spawn") and (call := call_of(edge)) is not None:
            branches = elsewhere[call]
            if edge.parent != call[0] and edge.id in masses:
                branches.append(edge.id)
    for (at, start, end), branches in sorted(elsewhere.items()):
        if (at, start) in refused and at in masses and owners[at] in trained:
            mass = math.fsum(masses[edge] for edge in (at, *branches))
            total = math.fsum(totals[edge] for edge in (at, *branches))
            gained = total / mass - mean(refused[at, start]) - cost
            yield Span(edge=at, start=start, end=end, coefficient=mass * gained - base.edges.get(at, 0.0))
