"""How what leaves earned becomes what the edges above them are worth.

If every leaf were a rollout of its own, trained whole with the weight w and the advantage A, the gradient would be the
sum over leaves of w A times that of all their tokens' log-probabilities. Collected by token, an edge has the factor

    c(edge) = sum over the leaves below it of w A,

its *coefficient*; each token is then trained once (RL.md 3.0; Tree Training, arXiv 2511.00413, proves the same).

A spawned agent's context is a tree of its own: its leaves are below none of its parent's edges. An edge with no leaf
below it that takes part has no coefficient and makes no row. Sums are exactly rounded, so that order changes no bit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from runtime.rollouts.credit.attempts import Attempt
from runtime.rollouts.schema import Edge

__all__ = ["Credit", "Share", "Span", "below", "spans_of", "spread"]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a leaf is given: `weight` is its part of the loss."""

    edge: int
    agent: str
    weight: float
    advantage: float


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an edge's tokens, from `start` to `end`, and what is added to its edge's coefficient there."""

    edge: int
    start: int
    end: int
    coefficient: float


class Credit(msgspec.Struct, frozen=True, kw_only=True):
    """What the tokens of one rollout are worth.

    `shares` are of the leaves that take part; `edges` the coefficients; `whole`: that rows are to be the paths of
    leaves, not edges. `out` says why a rollout takes no part; it then has no shares and no edges.
    """

    rollout: str
    shares: tuple[Share, ...] = ()
    edges: dict[int, float] = {}
    spans: tuple[Span, ...] = ()
    whole: bool = False
    out: str = ""


def spans_of(credit: Credit) -> dict[int, list[Span]]:
    """The spans of a credit, by edge."""
    spans: dict[int, list[Span]] = defaultdict(list)
    for span in credit.spans:
        spans[span.edge].append(span)
    return spans


def below(edges: Sequence[Edge], values: Iterable[tuple[int, float]]) -> dict[int, float]:
    """For each edge the sum of the values of the leaves below it; edges without any are left out."""
    parts: dict[int, list[float]] = defaultdict(list)
    for edge, value in values:
        parts[edge].append(value)
    out: dict[int, float] = {}
    for one in reversed(edges):  # parents come first
        if one.id in parts:
            out[one.id] = math.fsum(parts.pop(one.id))
            if one.parent is not None:
                parts[one.parent].append(out[one.id])
    return out


def spread(
    attempt: Attempt,
    advantages: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    edges: dict[int, float] | None = None,
    spans: Sequence[Span] = (),
    whole: bool = False,
) -> Credit:
    """The credit of an attempt whose stakes have these advantages.

    `weights` instead of the stakes' own; `edges` where coefficients are not those of the leaves below.
    """
    stakes = attempt.stakes
    weights = [stake.weight for stake in stakes] if weights is None else weights
    shares = tuple(
        Share(edge=stake.edge, agent=stake.agent.id, weight=weight, advantage=advantage)
        for stake, weight, advantage in zip(stakes, weights, advantages, strict=True)
    )
    rollout = attempt.rollout
    if edges is None:
        edges = below(rollout.edges, ((share.edge, share.weight * share.advantage) for share in shares))
    frozen = {member.id for member in rollout.head.members if not member.trainable}
    if frozen:
        agents = {edge.id: edge.agent for edge in rollout.edges}
        edges = {edge: 0.0 if agents[edge] in frozen else value for edge, value in edges.items()}
        spans = [span for span in spans if agents[span.edge] not in frozen]
    return Credit(
        rollout=rollout.head.id,
        shares=shares,
        edges=edges,
        spans=tuple(spans),
        whole=whole,
        out=attempt.out,
    )
