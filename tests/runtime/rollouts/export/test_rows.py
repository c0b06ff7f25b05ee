"""Formats of rows: what is trained, what stands before it, and what dividing by trained tokens comes to."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.rollouts.credit import Credit
from runtime.rollouts.export import ROWS
from runtime.rollouts.schema import Rollout
from tests.runtime.rollouts.export.schemas import DOCUMENTED, QueueRow, RolloutSample, Sample
from tests.runtime.rollouts.export.trees import credited, exported, files, steady

ESTIMATOR = st.sampled_from(("segment", "independent", "tree", "rao"))


class Plain(msgspec.Struct):
    """A row, whosever it is."""

    tokens: list[int]
    mask: list[int]
    logprobs: list[float]
    advantage: float


def plain(line: object, to: str) -> Plain:
    """A row as its reader's documented type has it."""
    row = msgspec.convert(line, DOCUMENTED[to])
    match row:
        case Sample():
            before = [0] * (len(row.tokens) - row.response_length)
            return Plain(row.tokens, before + row.loss_mask, before + row.rollout_log_probs, row.reward["advantage"])
        case QueueRow(output=out):
            before = [0] * len(out.prompt_ids)
            tokens = out.prompt_ids + out.response_ids
            return Plain(tokens, before + out.response_mask, before + out.response_logprobs, out.reward_score)
        case RolloutSample():
            return Plain(row.input_ids, row.completion_mask, row.old_log_probs, row.advantage)
        case _:
            raise AssertionError(to)


def places(rollout: Rollout, edge: int) -> list[tuple[str, int, int]]:
    """Where each token of a context comes from: rollout, edge and index."""
    return [(rollout.head.id, one.id, at) for one in rollout.path(edge) for at in range(len(one.tokens))]


def trained(rollout: Rollout, credit: Credit) -> set[tuple[str, int, int]]:
    """The sampled tokens of those who are trained and take part."""
    frozen = {member.id for member in rollout.head.members if not member.trainable}
    return {
        (rollout.head.id, edge.id, at)
        for edge in rollout.edges
        if edge.id in credit.edges and edge.agent not in frozen
        for at, mine in enumerate(edge.sampled)
        if mine
    }


@pytest.mark.parametrize("to", ROWS)
@steady
@given(found=files(), credit=ESTIMATOR)
def test_a_row_is_the_path_to_an_edge_and_tokens_are_trained_as_sampled(
    to: str, found: list[Rollout], credit: str
) -> None:
    """Tokens are those of a context, bit for bit; what is trained was sampled, with its own log-probability."""
    by_name = {one.head.id: one for one in found}
    origins = exported(found, "slime", credit)  # the same rows in the same order, and slime has room for whence
    lines = exported(found, to, credit)
    assert len(lines) == len(origins)
    for line, origin in zip(lines, origins, strict=True):
        row = plain(line, to)
        rollout = by_name[origin["metadata"]["rollout"]]
        path = rollout.path(origin["metadata"]["edge"])
        tokens = rollout.context(origin["metadata"]["edge"])
        assert row.tokens == tokens[: len(row.tokens)]
        sampled = [mine for edge in path for mine in edge.sampled]
        logprobs = [lp for edge in path for lp in edge.logprobs]
        for at, mine in enumerate(row.mask):
            assert sampled[at] or not mine
            assert row.logprobs[at] == (logprobs[at] if mine else 0)


@steady
@given(found=files())
def test_segment_rows_train_each_token_once_and_hold_every_leaf(found: list[Rollout]) -> None:
    """Each token that is trained is so in one row; a leaf that ends with such tokens has its context as a row."""
    rows = exported(found, "slime")
    seen: dict[tuple[str, int, int], int] = defaultdict(int)
    by_name = {one.head.id: one for one in found}
    contexts: dict[tuple[str, int], list[int]] = {}
    for line in rows:
        row, origin = plain(line, "slime"), line["metadata"]
        rollout = by_name[origin["rollout"]]
        for place, mine in zip(places(rollout, origin["edge"]), row.mask, strict=False):
            seen[place] += mine
        contexts[rollout.head.id, origin["edge"]] = row.tokens  # the last of an edge is the longest
    once: set[tuple[str, int, int]] = set()
    for rollout, credit in credited(found):
        once |= trained(rollout, credit)
        for leaf in rollout.head.leaves:
            last = next(edge for edge in rollout.edges if edge.id == leaf.edge)
            if last.sampled and last.sampled[-1] and (rollout.head.id, leaf.edge, len(last.tokens) - 1) in once:
                assert contexts[rollout.head.id, leaf.edge] == rollout.context(leaf.edge)
    assert {place: count for place, count in seen.items() if count} == dict.fromkeys(once, 1)


@steady
@given(found=files())
def test_slime_counts_one_rollout_a_root_and_one_group_a_task(found: list[Rollout]) -> None:
    """All rows of a root have one `rollout_id`, of a task one `group_index`; `index` is unique."""
    lines = [msgspec.convert(line, Sample) for line in exported(found, "slime")]
    assert len({line.index for line in lines}) == len(lines)
    for number, name in (("rollout_id", "rollout"), ("group_index", "group")):
        pairs = {(getattr(line, number), line.metadata[name]) for line in lines}
        assert len(pairs) == len({one for one, _ in pairs}) == len({one for _, one in pairs})


def loss(rows: Sequence[tuple[Plain, float]], divisor: float) -> float:
    """A trainer's: the sum over rows of the advantage times what its trained tokens add up to, divided."""
    return math.fsum(row.advantage * total for row, total in rows) / divisor if rows else 0.0


def worth(place: tuple[str, int, int]) -> float:
    """Stands for the gradient of one token's log-probability: any number that is its own."""
    return math.sin(zlib.crc32(repr(place).encode()))


@steady
@given(found=files(), credit=ESTIMATOR)
def test_dividing_by_trained_tokens_weighs_roots_alike_however_they_are_cut(found: list[Rollout], credit: str) -> None:
    """slime's loss of a root is that of its leaves, weighed, over the mean length of a leaf; TRL's is a group's.

    Checked against leaves as whole rollouts: the sum of w A over all tokens of each path.
    """
    rows: dict[str, list[tuple[Plain, float]]] = defaultdict(list)
    trl: dict[str, list[tuple[Plain, float]]] = defaultdict(list)
    by_name = {one.head.id: one for one in found}
    for line, other in zip(exported(found, "slime", credit), exported(found, "trl", credit), strict=True):
        row, origin = plain(line, "slime"), line["metadata"]
        rollout = by_name[origin["rollout"]]
        total = math.fsum(
            worth(place) for place, mine in zip(places(rollout, origin["edge"]), row.mask, strict=False) if mine
        )
        rows[rollout.head.id].append((row, total))
        trl[rollout.head.group].append((plain(other, "trl"), total))
    wanted: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for rollout, given_ in credited(found, credit):
        mine = trained(rollout, given_)
        value = math.fsum(
            (share.weight * share.advantage) * worth(place)
            for share in given_.shares
            for place in places(rollout, share.edge)
            if place in mine
        ) + math.fsum(
            span.coefficient * worth((rollout.head.id, span.edge, at))
            for span in given_.spans
            for at in range(span.start, span.end)
            if (rollout.head.id, span.edge, at) in mine
        )
        weight = math.fsum(share.weight for share in given_.shares)
        length = math.fsum(
            share.weight * sum(place in mine for place in places(rollout, share.edge)) for share in given_.shares
        ) / (weight or 1)
        wanted[rollout.head.group].append((value, length))
        ours = rows[rollout.head.id]
        if ours:
            divided = loss(ours, sum(sum(row.mask) for row, _ in ours))
            assert divided == pytest.approx(value / length, abs=1e-9)
    for group, ours in trl.items():
        divided = loss(ours, sum(sum(row.mask) for row, _ in ours))
        value, length = (math.fsum(column) for column in zip(*wanted[group], strict=True))
        assert divided == pytest.approx(value / length, abs=1e-9)


def test_a_root_that_never_forks_keeps_its_coefficient() -> None:
    """The scale is for shared prefixes alone."""
    from runtime.rollouts.export._batch import root_scale
    from tests.runtime.rollouts.export.made import alone

    ((rollout, credit), *_) = credited([alone("a", 1.0), alone("b", 0.0)])
    assert root_scale(rollout, credit) == 1.0
    assert [line["reward"]["advantage"] for line in exported([alone("a", 1.0), alone("b", 0.0)], "slime")] == [
        0.5,
        -0.5,
    ]
