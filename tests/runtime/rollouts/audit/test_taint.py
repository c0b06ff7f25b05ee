"""How far a hit reaches: shared prefixes, joins, letters, newcomers, rewinds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from runtime.rollouts.audit import Row, inspect, read_transcript
from runtime.rollouts.audit.taint import Flow, spread
from runtime.rollouts.schema import Edge, Leaf, Rollout, Told, verify
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


def spans(one: Edge) -> list[tuple[int, int]]:
    """Of the turns of an edge."""
    return [(turn.start, turn.end) for turn in one.turns]


@pytest.mark.parametrize("first", [True, False])
def test_a_fork_at_an_earlier_checkpoint_knows_what_its_call_knew(first: bool) -> None:
    """Its prefix is clean, its task is not, unless the peek came after the call."""
    forks = [said(call("fork", tasks=["x"], at="t1")), told("started a2")]
    peeks = [PEEK, told("3f9a2c1 Fix")]
    trunk = edge(0, None, "a1", "root", begun("go"), said(call("shell", command="ls")), told("x"))
    rest = edge(1, 0, "a1", "continued", *(peeks + forks if first else forks + peeks))
    copy = edge(2, 0, "a2", "fork", told("You are copy 1 of 1. Your task: x"), DONE)
    decided = (1, *spans(rest)[1 if first else 0])
    edges = [trunk, rest, structs.replace(copy, decided=decided)]
    leaves = [Leaf(edge=1, agent="a1"), Leaf(edge=2, agent="a2")]
    assert reached(rollout(edges, parents={"a2": ("a1", "fork")}, leaves=leaves)) == ({1, 2} if first else {1})


def test_the_call_that_is_recorded_decides_and_not_one_that_looks_like_it() -> None:
    """Two calls give the same task: the newcomer knows what the recorded one knew, up to its end."""
    calls = said(call("spawn", tasks=["task of a2"]))
    root = edge(0, None, "a1", "root", begun("go"), calls, told("refused"), PEEK, told("x"), calls, told("started a2"))
    newcomer = edge(1, None, "a2", "spawn", begun("You are new."), DONE)
    for turn, clean in ((0, True), (2, False)):
        edges = [root, structs.replace(newcomer, decided=(0, *spans(root)[turn]))]
        assert reached(rollout(edges, parents={"a2": ("a1", "spawn")})) == ({0} if clean else {0, 1})


def test_what_the_deciding_turn_itself_does_is_known() -> None:
    """A newcomer knows all of the turn that asked for it, to its end."""
    turn = said(call("shell", command="git log --all") + call("spawn", tasks=["x"]))
    root = edge(0, None, "a1", "root", begun("go"), turn, told("started a2"))
    newcomer = edge(1, None, "a2", "spawn", begun("You are new."), DONE)
    edges = [root, structs.replace(newcomer, decided=(0, *spans(root)[0]))]
    assert reached(rollout(edges, parents={"a2": ("a1", "spawn")})) == {0, 1}


def test_a_result_is_that_of_the_path_that_was_not_left() -> None:
    """What a copy saw on a path after it had decided to leave it is not in its result."""
    edges = [
        edge(0, None, "a1", "root", begun("go"), said(call("fork", tasks=["x"]))),
        edge(1, 0, "a2", "fork", told("You are copy 1 of 1. Your task: x"), said("hm"), told("x")),
        edge(2, 1, "a2", "continued", said(call("rewind", to="t1", report="r")), told("late news"), PEEK),
        edge(3, 1, "a2", "rewind", told("You are back at t1"), DONE),
        edge(4, 0, "a1", "continued", told("a2: done"), DONE),
    ]
    edges[3] = structs.replace(edges[3], decided=(2, *spans(edges[2])[0]))
    leaves = [Leaf(edge=2, agent="a2", abandoned=True), Leaf(edge=3, agent="a2"), Leaf(edge=4, agent="a1")]
    for recorded in (edges, with_told(edges, 4, Told(at=0, agent="a2"))):
        assert reached(rollout(recorded, parents={"a2": ("a1", "fork")}, leaves=leaves)) == {2}


def test_a_rewind_knows_its_call_and_not_what_was_left_before() -> None:
    """Where the call is recorded, a hit on another path that the agent had left earlier does not reach it again."""
    edges = [
        edge(0, None, "a1", "root", begun("go"), said(call("shell", command="ls")), told("x")),
        edge(1, 0, "a1", "continued", said(call("rewind", to="t1", report="r")), told("late news"), PEEK),
        edge(2, 0, "a1", "rewind", told("You are back at t1"), DONE),
    ]
    edges[2] = structs.replace(edges[2], decided=(1, *spans(edges[1])[0]))
    leaves = [Leaf(edge=1, agent="a1", abandoned=True), Leaf(edge=2, agent="a1")]
    assert reached(rollout(edges, leaves=leaves)) == {1}
    unrecorded = [*edges[:2], structs.replace(edges[2], decided=None)]
    assert reached(rollout(unrecorded, leaves=leaves)) == {1, 2}


def test_where_no_call_moved_an_agent_only_the_paths_that_it_had_left_count() -> None:
    """A path of another agent, one that is not left, and one that is left only later, carry nothing over."""
    edges = [
        edge(0, None, "a1", "root", begun("go"), said(call("fork", tasks=["x"]))),
        edge(1, 0, "a2", "fork", told("You are copy 1 of 1. Your task: x"), PEEK, told("x")),
        edge(2, 0, "a1", "continued", told("started a2"), said("hm")),
        edge(3, 2, "a1", "succession", told("You go on in a fresh context."), said("hm")),
        edge(4, 0, "a2", "rewind", told("You are back at t1"), DONE),
    ]
    left = [Leaf(edge=2, agent="a1", abandoned=True), Leaf(edge=1, agent="a2", abandoned=True)]
    leaves = [*left, Leaf(edge=3, agent="a1"), Leaf(edge=4, agent="a2")]
    assert reached(rollout(edges, parents={"a2": ("a1", "fork")}, leaves=leaves)) == {1, 4}


def test_a_path_that_is_left_later_carries_nothing_back() -> None:
    """The agent peeks after its first rewind: what it went on with the first time stays clean, the second does not."""
    edges = [
        edge(0, None, "a1", "root", begun("go"), said(call("shell", command="ls")), told("x")),
        edge(1, 0, "a1", "continued", said("a blind alley")),
        edge(2, 0, "a1", "rewind", told("You are back at t1"), said("first"), told("x")),
        edge(3, 2, "a1", "continued", PEEK, told("x")),
        edge(4, 2, "a1", "rewind", told("You are back at t2"), DONE),
    ]
    leaves = [Leaf(edge=n, agent="a1", abandoned=n != 4) for n in (1, 3, 4)]
    assert reached(rollout(edges, leaves=leaves)) == {3, 4}


def test_a_leaf_that_is_no_left_path_carries_nothing_over() -> None:
    """A context of the agent that ends and was not left is beside the rewind, not before it."""
    edges = [
        edge(0, None, "a1", "root", begun("go"), said("hm"), told("x")),
        edge(1, 0, "a1", "continued", PEEK),
        edge(2, 0, "a1", "rewind", told("You are back at t1"), DONE),
    ]
    leaves = [Leaf(edge=1, agent="a1"), Leaf(edge=2, agent="a1")]
    assert reached(rollout(edges, leaves=leaves)) == {1}


def with_told(edges: list[Edge], number: int, *told_: Told) -> list[Edge]:
    """The edges, with what one of them was told as the run recorded it."""
    return [structs.replace(one, told=told_) if one.id == number else one for one in edges]


def test_a_recorded_join_needs_no_words() -> None:
    """Text that names nobody, and that holds no result, is a join where the run says so."""
    edges = forked(prefix=False, branch=True, joins=False)
    assert reached(made(with_told(edges, 3, Told(at=0, agent="a2")))) == {1, 3, 4}


def test_words_are_no_join_where_joins_are_recorded() -> None:
    """A line that looks like a result of the one who peeked is none if the run says that another's was told."""
    edges = forked(prefix=False, branch=True, joins=True)
    assert reached(made(with_told(edges, 3, Told(at=0, agent="a3")))) == {1}


@pytest.mark.parametrize(("turn", "reaches"), [(0, {0}), (2, {0, 1})])
def test_a_recorded_letter_knows_what_the_turn_that_wrote_it_knew(turn: int, reaches: set[int]) -> None:
    """Two letters with one subject, before a peek and after it: the one that was told counts, from its turn's end."""
    sends = said(call("send", to="a2", subject="hi", body="b"))
    sender = edge(0, None, "a1", "root", begun("go"), sends, told("sent"), PEEK, told("x"), sends, told("sent"))
    reader = edge(1, None, "a2", "root", begun("go"), said("waiting"), told("Mail m1 from a1: hi\nb"), DONE)
    at = spans(reader)[0][1]
    letter = Told(at=at, agent="a1", sent=(0, spans(sender)[turn][1]))
    assert reached(rollout([sender, structs.replace(reader, told=(letter,))])) == reaches


def test_what_was_told_is_known_from_its_place_on() -> None:
    """Whoever was told of somebody else's hit after writing a letter did not know it in that letter."""
    sender = edge(
        *(0, None, "a1", "root"),
        *(begun("go"), said(call("send", to="a3", subject="hi", body="b")), told("a2: done"), DONE),
    )
    peeker = edge(1, None, "a2", "root", begun("go"), PEEK)
    reader = edge(2, None, "a3", "root", begun("go"), said("waiting"), told("Mail m1 from a1: hi\nb"), DONE)
    after = spans(sender)[0][1]
    sender = structs.replace(sender, told=(Told(at=after, agent="a2"),))
    for sent, reaches in ((after, {0, 1}), (spans(sender)[1][1], {0, 1, 2})):
        letter = Told(at=spans(reader)[0][1], agent="a1", sent=(0, sent))
        edges = [sender, peeker, structs.replace(reader, told=(letter,))]
        assert reached(rollout(edges)) == reaches


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
        if whole.get(flow.source[0], 10) < flow.source[1]:
            assert whole[flow.target[0]] <= flow.target[1]
