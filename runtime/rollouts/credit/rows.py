"""What a trainer takes that knows one advantage a row: a context, and which of its tokens are trained.

A *segment row* is the path down to an edge with only that edge's own sampled tokens in the mask and the edge's
coefficient as the advantage (RL.md 0.4); where spans of the edge are worth something else, one row for each stretch
that is worth the same. Every sampled token of an agent that is trained is then in the mask of exactly one row. A row of
a leaf is its whole path; its spans are rows of their own. Rows are made one at a time.

The gradient of the sum of all rows' losses is that of independent rollouts if the loss is linear in the advantage (a
clipped ratio of a sum with mixed signs is not the sum of clipped ratios), and if the denominator is the same: a trainer
that divides by the tokens it trains divides by fewer of them here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import msgspec

from runtime.rollouts.credit.shares import Credit, Span, spans_of
from runtime.rollouts.schema import Edge, Rollout

__all__ = ["Row", "rows"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `tokens`, `mask` and `logprobs` are equally long; `logprobs` is 0 where nothing is trained.

    `prompt` tokens come before the first one of the mask. `edge` is where the row ends and `agent` whose it is;
    `versions` are the weights that sampled what is trained, in order of appearance.
    """

    rollout: str
    group: str
    edge: int
    agent: str
    tokens: list[int]
    mask: list[bool]
    logprobs: list[float]
    advantage: float
    prompt: int
    versions: tuple[str, ...] = ()


def rows(rollout: Rollout, credit: Credit) -> Iterator[Row]:
    """The rows of a rollout, in the order of its edges or leaves, those that are worth 0 included."""
    index = {edge.id: edge for edge in rollout.edges}
    trained = {member.id for member in rollout.head.members if member.trainable}
    if credit.whole:
        for share in credit.shares:
            mine = [(edge, 0, len(edge.tokens)) for edge in _path(index, share.edge) if edge.agent in trained]
            yield from _row(rollout, index, share.edge, mine, share.agent, share.weight * share.advantage)
        for span in credit.spans:
            edge = index[span.edge]
            yield from _row(rollout, index, edge.id, [(edge, span.start, span.end)], edge.agent, span.coefficient)
        return
    spans = spans_of(credit)
    for edge in rollout.edges:
        if edge.id in credit.edges and edge.agent in trained:
            for stretch, value in _stretches(edge, credit.edges[edge.id], spans.get(edge.id, [])):
                yield from _row(rollout, index, edge.id, stretch, edge.agent, value)


def _path(index: dict[int, Edge], edge: int | None) -> list[Edge]:
    out: list[Edge] = []
    while edge is not None:
        out.append(index[edge])
        edge = index[edge].parent
    return out[::-1]


def _stretches(
    edge: Edge, coefficient: float, spans: Sequence[Span]
) -> Iterator[tuple[list[tuple[Edge, int, int]], float]]:
    """The parts of an edge that are worth the same and follow each other; tokens that were given part nothing."""
    cuts = sorted({0, len(edge.tokens)}.union(*((span.start, span.end) for span in spans)))
    held: list[tuple[Edge, int, int]] = []
    worth = 0.0
    for start, end in pairwise(cuts):
        if not any(edge.sampled[start:end]):
            continue
        here = (span.coefficient for span in spans if span.start <= start and end <= span.end)
        value = math.fsum((coefficient, *here))
        if held and value != worth:
            yield held, worth
            held = []
        held.append((edge, start, end))
        worth = value
    if held:
        yield held, worth


def _row(
    rollout: Rollout,
    index: dict[int, Edge],
    last: int,
    parts: list[tuple[Edge, int, int]],
    agent: str,
    advantage: float,
) -> Iterator[Row]:
    """The path to `last`, up to the end of the last of `parts`, which are trained; none where nothing was sampled."""
    path = _path(index, last)
    offsets: dict[int, int] = {}
    length = 0
    for edge in path:
        offsets[edge.id] = length
        length += len(edge.tokens)
    if parts:
        length = offsets[parts[-1][0].id] + parts[-1][2]
    mask = [False] * length
    logprobs = [0.0] * length
    versions: dict[str, None] = {}
    for edge, start, end in parts:
        at = offsets[edge.id]
        mask[at + start : at + end] = edge.sampled[start:end]
        logprobs[at + start : at + end] = [lp or 0.0 for lp in edge.logprobs[start:end]]
        versions |= dict.fromkeys(one.version for one in edge.versions if one.start < end and start < one.end)
    if any(mask):
        yield Row(
            rollout=rollout.head.id,
            group=rollout.head.group,
            edge=last,
            agent=agent,
            tokens=list(chain.from_iterable(edge.tokens for edge in path))[:length],
            mask=mask,
            logprobs=logprobs,
            advantage=advantage,
            prompt=mask.index(True),
            versions=tuple(versions),
        )
