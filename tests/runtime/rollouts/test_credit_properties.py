"""Credit, for any group: what all estimators hold, over random trees with all that can happen in them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.rollouts.credit import (
    ESTIMATORS,
    Credit,
    Row,
    decision,
    independent,
    rao,
    role_of,
    rows,
    segment,
    spec_loo,
    tree,
)
from runtime.rollouts.schema import Rollout, Term, verify
from tests.runtime.rollouts.trees import grow_group, reordered

VARIANTS = {
    **ESTIMATORS,
    "segment by role": partial(segment, by=role_of),
    "segment by role, std": partial(segment, by=role_of, std=True),
    "tree, std": partial(tree, std=True),
    "tree, against parent": partial(tree, against_parent=True),
    "rao, no bonus": partial(rao, bonus=0.0),
    "decision over segment": lambda group: decision(group, base=segment(group), cost=0.1),
}
every_variant = pytest.mark.parametrize("estimate", VARIANTS.values(), ids=VARIANTS.keys())
random = st.integers(0, 2**32).map(Random)  # many draws a tree: through hypothesis they would take minutes


def near(values: dict[int, float]) -> object:
    """Equal but for rounding."""
    return pytest.approx(values, abs=1e-12)


def comparable(credit: Credit, old: dict[int, int]) -> tuple[object, ...]:
    """A credit without an order, by the old numbers of its edges."""
    return (
        {old[edge]: value for edge, value in credit.edges.items()},
        sorted((old[share.edge], share.agent, share.weight, share.advantage) for share in credit.shares),
        sorted((old[span.edge], span.start, span.end, span.coefficient) for span in credit.spans),
        credit.out,
    )


@every_variant
@given(rng=random)
def test_order_changes_no_bit(estimate, rng: Random) -> None:  # type: ignore[no-untyped-def]
    """Not that of rollouts, members, leaves, terms, nor that in which branches were begun and ended."""
    group = grow_group(rng)
    assert not any(verify(one) for one in group)
    other, old = reordered(rng, group)
    same = {name: {edge: edge for edge in new.values()} for name, new in old.items()}
    assert {c.rollout: comparable(c, same[c.rollout]) for c in estimate(group)} == {
        c.rollout: comparable(c, old[c.rollout]) for c in estimate(other)
    }


@every_variant
@given(rng=random)
def test_a_constant_added_to_all_rewards_changes_nothing(estimate, rng: Random) -> None:  # type: ignore[no-untyped-def]
    """But for `rao`, whose bonus counts it again for agents with children."""
    if estimate is rao:
        return
    group = grow_group(rng)
    more = [
        msgspec.structs.replace(
            one,
            head=msgspec.structs.replace(
                one.head, terms=(*one.head.terms, Term(name="c", agent="a0", score=3.0, shared=True))
            ),
        )
        for one in group
    ]
    for before, after in zip(estimate(group), estimate(more), strict=True):
        assert after.edges == pytest.approx(before.edges, abs=1e-9)
        assert [s.coefficient for s in after.spans] == pytest.approx([s.coefficient for s in before.spans], abs=1e-9)


@pytest.mark.parametrize("estimate", [independent, segment, tree, spec_loo])
@given(rng=random)
def test_the_weights_of_a_root_sum_to_one(estimate, rng: Random) -> None:  # type: ignore[no-untyped-def]
    """If it takes part; else it has none."""
    for credit in estimate(grow_group(rng)):
        assert math.fsum(share.weight for share in credit.shares) == pytest.approx(0.0 if credit.out else 1.0)


@given(random)
def test_the_weights_of_rao_sum_to_the_attempts(rng: Random) -> None:
    """Over the group; depths share them evenly."""
    credits = rao(grow_group(rng))
    total = math.fsum(share.weight for credit in credits for share in credit.shares)
    assert total == pytest.approx(sum(not credit.out for credit in credits))


@pytest.mark.parametrize("estimate", [independent, segment, tree, rao, spec_loo])
@given(rng=random)
def test_an_edge_is_worth_the_sum_of_the_leaves_below(estimate, rng: Random) -> None:  # type: ignore[no-untyped-def]
    """By the paths of all leaves, walked one by one; edges of frozen agents apart."""
    group = grow_group(rng)
    for one, credit in zip(group, estimate(group), strict=True):
        frozen = {member.id for member in one.head.members if not member.trainable}
        expected: dict[int, float] = defaultdict(float)
        for share in credit.shares:
            for edge in one.path(share.edge):
                expected[edge.id] += 0.0 if edge.agent in frozen else share.weight * share.advantage
        assert credit.edges == near(expected)


@pytest.mark.parametrize("by", [None, role_of])
@given(rng=random)
def test_over_a_group_segment_sums_to_nothing(by, rng: Random) -> None:  # type: ignore[no-untyped-def]
    """A baseline that is the mean takes away as much as it gives (without roles; a role weighs by its own roots)."""
    if by is None:
        credits = segment(grow_group(rng), by=by)
        assert math.fsum(s.weight * s.advantage for c in credits for s in c.shares) == pytest.approx(0.0, abs=1e-9)
    else:
        for credit in segment(grow_group(rng)[:1], by=by):
            assert math.fsum(s.weight * s.advantage for s in credit.shares) == pytest.approx(0.0, abs=1e-9)


def versions_of(one: Rollout, row: Row) -> Iterator[str]:
    """The weights that sampled each of its trained tokens."""
    at = 0
    for edge in one.path(row.edge):
        for place, mine in enumerate(row.mask[at : at + len(edge.tokens)]):
            if mine:
                yield next(each.version for each in edge.versions if each.start <= place < each.end)
        at += len(edge.tokens)


def by_token(one: Rollout, credit: Credit) -> tuple[dict[tuple[int, ...], float], list[tuple[int, ...]]]:
    """What each token, known by all before it, is worth over all rows; and the tokens as they are trained."""
    worth: dict[tuple[int, ...], float] = defaultdict(float)
    trained: list[tuple[int, ...]] = []
    for row in rows(one, credit):
        assert len(row.tokens) == len(row.mask) == len(row.logprobs)
        assert row.prompt == row.mask.index(True)
        assert row.tokens == one.context(row.edge)[: len(row.tokens)]
        assert all((lp < 0) == mine for lp, mine in zip(row.logprobs, row.mask, strict=True))
        assert row.versions == tuple(dict.fromkeys(versions_of(one, row)))
        for at, mine in enumerate(row.mask):
            if mine:
                context = tuple(row.tokens[: at + 1])
                worth[context] += row.advantage
                trained.append(context)
    return worth, trained


@given(random)
def test_segment_rows_give_every_token_what_independent_rows_do(rng: Random) -> None:
    """Spans of steps included; tokens that share their whole past are the same token."""
    group = grow_group(rng)
    for one, parts, paths in zip(group, segment(group), independent(group), strict=True):
        assert by_token(one, parts)[0] == pytest.approx(by_token(one, paths)[0], abs=1e-12)


@every_variant
@given(rng=random)
def test_every_token_is_trained_once(estimate, rng: Random) -> None:  # type: ignore[no-untyped-def]
    """In segment rows: what trained agents sampled above leaves that take part, each in one row's mask."""
    group = grow_group(rng)
    for one, credit in zip(group, estimate(group), strict=True):
        if credit.whole:
            continue
        trained = {member.id for member in one.head.members if member.trainable}
        expected = sum(sum(edge.sampled) for edge in one.edges if edge.id in credit.edges and edge.agent in trained)
        assert len(by_token(one, credit)[1]) == expected
