"""How far a hit reaches: shared prefixes, joins, letters, newcomers, rewinds."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from runtime.rollouts.audit import Row, inspect, read_transcript
from runtime.rollouts.audit.taint import Flow, spread
from runtime.rollouts.schema import Edge, Leaf, Rollout, verify
from tests.runtime.rollouts.audit.building import begun, edge, rollout, said, told
from tests.support import call, tiny_chat

PEEK = said(call("shell", command="git log --all"))
DONE = said(call("finish", result="done"))
FORK = said(call("fork", tasks=["left", "right"]))
COPIES = {"a2": ("a1", "fork"), "a3": ("a1", "fork")}


def reached(one: Rollout) -> set[int]:
    """The edges that the hits of a rollout taint."""
    assert verify(one) == []
    rows = inspect(read_transcript(one, tiny_chat()))
    assert rows
    return {segment for row in rows for segment in row.taints}


def forked(*, prefix: bool, branch: bool, joins: bool) -> list[Edge]:
    """a1 forks a2 and a3, is told their results, and forks a4; who peeks is told by the flags."""
    root = [begun("go"), *([PEEK, told("3f9a2c1 Fix")] if prefix else []), FORK]
    left = [told("You are copy 1 of 2. Your task: left"), *([PEEK, told("3f9a2c1 Fix")] if branch else []), DONE]
    results = "a2: done\na3: done" if joins else "started a2, a3."
    return [
        edge(0, None, "a1", "root", *root),
        edge(1, 0, "a2", "fork", *left),
        edge(2, 0, "a3", "fork", told("You are copy 2 of 2. Your task: right"), DONE),
        edge(3, 0, "a1", "continued", told(results), said(call("fork", tasks=["more"]))),
        edge(4, 3, "a4", "fork", told("You are copy 1 of 1. Your task: more"), DONE),
    ]


def made(edges: list[Edge]) -> Rollout:
    parents = COPIES | {"a4": ("a1", "fork")}
    return rollout(edges, parents=parents, leaves=[Leaf(edge=n, agent=f"a{n + 1}") for n in (1, 2)] + END)


END = [Leaf(edge=3, agent="a1"), Leaf(edge=4, agent="a4")]


def test_a_hit_on_a_shared_prefix_taints_every_descendant() -> None:
    """All edges come from the one that peeked."""
    assert reached(made(forked(prefix=True, branch=False, joins=False))) == {0, 1, 2, 3, 4}


def test_a_hit_in_a_branch_stays_there_before_a_join() -> None:
    """Neither the sibling nor the parent knows of it."""
    assert reached(made(forked(prefix=False, branch=True, joins=False))) == {1}


def test_a_join_taints_the_parent_and_whom_it_forks_later() -> None:
    """The parent from its text on, the later copy wholly, the sibling of before the join never."""
    assert reached(made(forked(prefix=False, branch=True, joins=True))) == {1, 3, 4}


def test_a_result_that_was_told_before_taints_nobody() -> None:
    """A hit after the only place that another could know from reaches no further."""
    edges = [
        edge(
            0, None, "a1", "root", begun("go"), said(call("send", to="a2", subject="hi", body="b")), told("sent"), PEEK
        ),
        edge(1, None, "a2", "root", begun("go"), said("waiting"), told("Mail m1 from a1: hi\nb"), DONE),
    ]
    assert reached(rollout(edges)) == {0}


def test_a_letter_taints_who_reads_it() -> None:
    """The hit comes before the letter."""
    edges = [
        edge(0, None, "a1", "root", begun("go"), PEEK, told("x"), said(call("send", to="a2", subject="hi", body="b"))),
        edge(1, None, "a2", "root", begun("go"), said("waiting"), told("Mail m1 from a1: hi\nb"), DONE),
        edge(2, None, "a3", "root", begun("go"), said("waiting"), told("Mail m2 from a2: hi\nb"), DONE),
    ]
    assert reached(rollout(edges)) == {0, 1}


def test_a_newcomer_knows_what_the_call_that_spawned_it_knew() -> None:
    """One spawned before the hit is clean, one spawned after it is not."""
    edges = [
        edge(
            *(0, None, "a1", "root"),
            *(begun("go"), said(call("spawn", tasks=["task of a2"])), told("started a2")),
            *(PEEK, told("x"), said(call("spawn", tasks=["task of a3"])), told("started a3")),
        ),
        edge(1, None, "a2", "spawn", begun("You are new."), DONE),
        edge(2, None, "a3", "spawn", begun("You are new."), DONE),
    ]
    assert reached(rollout(edges, parents={"a2": ("a1", "spawn"), "a3": ("a1", "spawn")})) == {0, 2}


def test_a_rewind_carries_over_what_the_left_path_knew() -> None:
    """The report is written by one who had peeked."""
    edges = [
        edge(0, None, "a1", "root", begun("go"), said(call("shell", command="ls")), told("x")),
        edge(1, 0, "a1", "continued", PEEK, told("x"), said(call("rewind", to="t1", report="r"))),
        edge(2, 0, "a1", "rewind", told("You are back at t1"), DONE),
    ]
    leaves = [Leaf(edge=1, agent="a1", abandoned=True), Leaf(edge=2, agent="a1")]
    assert reached(rollout(edges, leaves=leaves)) == {1, 2}


@given(st.randoms(use_true_random=False), st.booleans(), st.booleans(), st.booleans())
def test_order_is_without_influence(shuffler: random.Random, prefix: bool, branch: bool, joins: bool) -> None:
    """Members, leaves and edges in any order that has parents first give the same rows."""
    one = made(forked(prefix=prefix, branch=branch, joins=joins))
    head = one.head
    members, leaves, edges = list(head.members), list(head.leaves), list(one.edges)
    for items in (members, leaves, edges):
        shuffler.shuffle(items)
    seen: set[int | None] = {None}
    ordered: list[Edge] = []
    while len(ordered) < len(edges):
        ordered += (found := [item for item in edges if item.parent in seen and item.id not in seen][:1])
        seen.update(item.id for item in found)
    other = structs.replace(
        one, head=structs.replace(head, members=tuple(members), leaves=tuple(leaves)), edges=tuple(ordered)
    )
    assert rows_of(other) == rows_of(one)


def rows_of(one: Rollout) -> list[Row]:
    return inspect(read_transcript(one, tiny_chat()))


PLACES = st.tuples(st.integers(0, 5), st.integers(0, 9))


@given(st.lists(PLACES), st.lists(st.builds(lambda a, b: Flow(source=a, target=b), PLACES, PLACES)), st.randoms())
def test_spreading_is_a_fixpoint_of_sets(places: list[tuple[int, int]], flows: list[Flow], any_: random.Random) -> None:
    """The order of hits and flows does not matter; many hits taint what each taints; nothing flows on unseen."""
    whole = spread(places, flows)
    shuffled = any_.sample(places, len(places)), any_.sample(flows, len(flows))
    assert spread(*shuffled) == whole
    alone = [spread([place], flows) for place in places]
    assert whole == {edge: min(one[edge] for one in alone if edge in one) for one in alone for edge in one}
    for flow in flows:
        if whole.get(flow.source[0], 10) <= flow.source[1]:
            assert whole[flow.target[0]] <= flow.target[1]
