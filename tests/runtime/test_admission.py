"""The admission controller."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.context import Origin, Segment
from runtime.admission import PATIENCE, Admission


class Tree:
    """Segments with numbers."""

    def __init__(self) -> None:
        self.count = 0

    def grow(self, parent: Segment | None, tokens: int, origin: Origin = Origin.GIVEN) -> Segment:
        self.count += 1
        return Segment(self.count, parent, origin, [0] * tokens)


def names(admission: Admission) -> list[str]:
    return [ticket.agent for ticket in admission.grants()]


def test_what_fits_is_granted_at_once() -> None:
    """Without pressure every turn starts when it is asked for."""
    tree, admission = Tree(), Admission(1000)
    for name in "abc":
        admission.ask(name, tree.grow(None, 100), 50)
        assert names(admission) == [name]


def test_strangers_wait_for_room() -> None:
    """A context that does not fit waits until one that holds its place leaves."""
    tree, admission = Tree(), Admission(250)
    first, second = tree.grow(None, 150), tree.grow(None, 150)
    admission.ask("a", first, 10)
    admission.ask("b", second, 10)
    assert names(admission) == ["a"]
    admission.ended("a", tree.grow(first, 10, Origin.SAMPLED))
    assert names(admission) == []
    admission.left("a")
    assert names(admission) == ["b"]


def test_a_family_counts_its_trunk_once() -> None:
    """Copies fit where strangers of the same length do not, and go before strangers who came earlier."""
    tree, admission = Tree(), Admission(300)
    trunk = tree.grow(None, 200)
    copies = [tree.grow(trunk, 10) for _ in range(3)]
    admission.ask("a", copies[0], 10)
    assert names(admission) == ["a"]
    admission._growth = 0.0  # nobody is expected to grow
    admission.ask("stranger", tree.grow(None, 200), 10)
    for name, copy in zip("bc", copies[1:], strict=True):
        admission.ask(name, copy, 10)
    assert names(admission) == ["b", "c"]


def test_a_senior_takes_the_room_of_an_idle_junior() -> None:
    """When holders outgrow the pool the youngest idle one loses its room, and gets it back before newcomers do."""
    tree, admission = Tree(), Admission(220)
    heads = {name: tree.grow(None, 90) for name in "ab"}
    for name, head in heads.items():
        admission.ask(name, head, 5)
        admission._growth = 0.0  # nothing is known yet of how they grow
        assert names(admission) == [name]
        heads[name] = tree.grow(head, 5, Origin.SAMPLED)
        admission.ended(name, heads[name])
    deep = tree.grow(None, 90)
    for _ in range(9):
        deep = tree.grow(deep, 1)
    admission.ask("c", deep, 5)  # of two that share nothing the deeper goes first, but for one that was in before
    admission.ask("b", tree.grow(heads["b"], 1), 5)
    admission.ask("a", longer := tree.grow(heads["a"], 40), 5)
    assert names(admission) == ["a"]
    assert admission.preempted == 1
    admission.ended("a", longer)
    admission.left("a")
    assert names(admission)[0] == "b"


def test_who_lost_its_room_is_named_until_it_has_it_again() -> None:
    """The engine has to be told whose KV is not worth keeping; who is back before that is not named any more."""
    tree, admission = Tree(), Admission(220)
    heads = {name: tree.grow(None, 90) for name in "ab"}
    for name, head in heads.items():
        admission.ask(name, head, 5)
        admission._growth = 0.0
        assert names(admission) == [name]
        admission.ended(name, head)
    admission.ask("a", longer := tree.grow(heads["a"], 50), 5)
    assert names(admission) == ["a"]
    assert admission.lost == {"b"}
    admission.ended("a", longer)
    admission.left("a")
    admission.ask("b", heads["b"], 5)
    assert names(admission) == ["b"]
    assert admission.lost == set()


def test_the_first_life_that_ends_replaces_the_guess() -> None:
    """What holders really grow by counts from the first on, all of a life that lost its room in between included."""
    tree, admission = Tree(), Admission(1_000)
    admission.ask("a", head := tree.grow(None, 100), 50)
    assert names(admission) == ["a"]  # guessed: four turns of 50
    admission.ended("a", head := tree.grow(head, 300))
    admission._preempt("a")
    admission.ask("a", head, 50)
    assert names(admission) == ["a"]
    admission.ended("a", tree.grow(head, 50))
    admission.left("a")
    admission.ask("b", tree.grow(None, 300), 50)
    assert names(admission) == ["b"]  # and will grow by 350, as a did
    admission.ask("c", tree.grow(None, 350), 50)
    assert names(admission) == []  # with the guess of 200 there was room
    admission.withdraw("c")
    admission.ask("d", tree.grow(None, 300), 50)
    assert names(admission) == ["d"]


def test_who_leaves_begins_anew() -> None:
    """An agent that lost its room and then waited for others has grown by nothing when it comes back."""
    tree, admission = Tree(), Admission(1_000)
    admission.ask("a", head := tree.grow(None, 100), 50)
    assert names(admission) == ["a"]
    admission.ended("a", head := tree.grow(head, 300))
    admission._preempt("a")
    admission.left("a")
    admission.ask("a", head, 50)
    assert names(admission) == ["a"]
    admission.ended("a", tree.grow(head, 40))
    admission.left("a")
    assert admission._growth == 40.0


def test_who_leaves_in_the_middle_of_a_turn_gives_back_what_it_might_have_added() -> None:
    """A turn that was granted and then cancelled holds nothing."""
    tree, admission = Tree(), Admission(1_000)
    admission.ask("a", tree.grow(None, 100), 50)
    assert names(admission) == ["a"]
    assert (admission.held, admission.running) == (100, 50)
    admission.left("a")
    assert (admission.held, admission.running, admission.holders) == (0, 0, 0)


def test_what_can_never_fit_is_refused() -> None:
    """A context larger than the pool is not kept waiting for ever."""
    tree, admission = Tree(), Admission(100)
    ticket = admission.ask("a", tree.grow(None, 200), 1)
    assert admission.grants() == [ticket]
    assert ticket.refused


def test_the_passed_over_are_next() -> None:
    """However many relatives of a holder come, a stranger for whom they leave no room is passed over so many times and
    no more."""
    tree, admission = Tree(), Admission(300)
    trunk = tree.grow(None, 150)
    admission._growth = 0.0
    granted: list[str] = []
    live: list[str] = []
    for number in range(3 * PATIENCE):
        admission.ask(f"c{number}", tree.grow(trunk, 1), 1)
        if not number:
            admission.ask("stranger", tree.grow(None, 160), 1)
        come = admission.grants()
        for ticket in come:
            granted.append(ticket.agent)
            live.append(ticket.agent)
            admission.ended(ticket.agent, ticket.head)
        if len(live) > 4 or not come:
            admission.left(live.pop(0))
    assert granted.index("stranger") == 1 + PATIENCE  # the first one found nobody to pass over


def test_of_two_newcomers_the_one_with_more_to_find_goes_first() -> None:
    """A long context that is nearly all there costs less than a short one of which nothing is."""
    tree, admission = Tree(), Admission(1_000)
    trunk = tree.grow(None, 500)
    admission.ask("a", trunk, 1)
    assert names(admission) == ["a"]
    admission._growth = 0.0
    admission.ask("short", tree.grow(None, 30), 1)
    admission.ask("long", tree.grow(trunk, 100), 1)
    assert names(admission) == ["long", "short"]


def test_before_any_has_ended_holders_are_expected_to_take_a_few_turns() -> None:
    """A newcomer leaves room for four turns of each holder."""
    for pool, fits in ((100 + 4 * 10 + 100 + 10, True), (100 + 4 * 10 + 100 + 9, False)):
        tree, admission = Tree(), Admission(pool)
        admission.ask("a", tree.grow(None, 100), 10)
        assert names(admission) == ["a"]
        admission.ask("b", tree.grow(None, 100), 10)
        assert names(admission) == (["b"] if fits else [])


def test_a_holder_that_outgrows_the_guess_counts_as_half_way() -> None:
    """While none has ended, a senior that took a junior's room is expected to grow once more by what it grew."""
    tree, admission = Tree(), Admission(400)
    heads = {name: tree.grow(None, 100) for name in "ab"}
    for name, head in heads.items():
        admission.ask(name, head, 1)
        assert names(admission) == [name]
        admission.ended(name, head)
    heads["a"] = tree.grow(heads["a"], 150)
    admission.ask("a", heads["a"], 60)
    assert names(admission) == ["a"]
    assert admission.lost == {"b"}
    admission.ended("a", heads["a"])
    admission.ask("b", heads["b"], 1)
    assert names(admission) == []  # 250 are held, and 150 more are expected
    admission.left("a")
    assert names(admission) == ["b"]


def test_growth_counts_from_where_a_head_went_back_to() -> None:
    """A holder that rewinds and then grows has grown by what it grew since."""
    tree, admission = Tree(), Admission(1_000)
    admission.ask("a", tree.grow(None, 500), 10)
    assert names(admission) == ["a"]
    short = tree.grow(None, 100)
    admission.ended("a", short)
    admission.ask("a", short, 10)
    assert names(admission) == ["a"]
    admission.ended("a", tree.grow(short, 300))
    admission.left("a")
    admission.ask("b", tree.grow(None, 400), 10)
    assert names(admission) == ["b"]
    admission.ask("c", tree.grow(None, 301), 10)
    assert names(admission) == []  # b will grow by 300
    admission.withdraw("c")
    admission.ask("c", tree.grow(None, 290), 10)
    assert names(admission) == ["c"]


def test_a_context_that_shrinks_does_not_spoil_what_growth_is_expected() -> None:
    """A holder that ends with a shorter context than it was admitted with says nothing about how others will grow: who
    comes next still waits for room, and is not refused."""
    tree, admission = Tree(), Admission(1_000)
    for name in ("a", "b"):
        admission.ask(name, tree.grow(None, 300), 50)
    assert [ticket.agent for ticket in admission.grants()] == ["a", "b"]
    admission.ended("a", tree.grow(None, 20))
    admission.left("a")
    admission.ended("b", tree.grow(None, 20))
    admission.ask("b", tree.grow(None, 600), 300)
    assert [ticket.refused for ticket in admission.grants()] == [False]
    admission.ask("c", tree.grow(None, 200), 50)
    assert admission.grants() == []
    admission.ended("b", tree.grow(None, 20))
    admission.left("b")
    assert [(ticket.agent, ticket.refused) for ticket in admission.grants()] == [("c", False)]


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32))
def test_nobody_starves_and_nothing_is_overadmitted(seed: int) -> None:
    """Agents in families of random shape take random turns in a pool of random size, finishing in random order: at any
    moment what is held and may be added fits the pool, and every agent gets all its turns or is told it cannot fit.
    Some heads move back between turns, as a rewind or a fresh context has them do."""
    chance = random.Random(seed)
    pool, page = chance.randint(60, 400), chance.randint(1, 8)
    tree, admission = Tree(), Admission(pool, page)
    trunks = [tree.grow(None, chance.randint(1, 60)) for _ in range(3)]
    heads, turns = {}, {}
    for number in range(chance.randint(1, 10)):
        heads[f"a{number}"] = tree.grow(chance.choice([None, *trunks]), chance.randint(1, 60))
        turns[f"a{number}"] = chance.randint(1, 4)
    waiting = {name: admission.ask(name, heads[name], 5) for name in heads}
    running: list[str] = []
    while granted := admission.grants() or running:
        for ticket in granted if granted is not running else []:
            del waiting[ticket.agent]
            if ticket.refused:
                assert ticket.head.length + ticket.grows + page - 1 > pool
                admission.left(ticket.agent)
                del turns[ticket.agent]
            else:
                running.append(ticket.agent)
        assert admission.held + admission.running <= pool
        paths = {s.id: s for hold in admission._holders.values() if hold.head for s in hold.head.path()}
        assert admission.held == sum(len(segment.tokens) for segment in paths.values())
        if not running:
            continue
        name = running.pop(chance.randrange(len(running)))
        sampled = tree.grow(heads[name], chance.randint(0, 5), Origin.SAMPLED)
        admission.ended(name, sampled)
        turns[name] -= 1
        if turns[name]:
            back = chance.choice([sampled, sampled, None, *sampled.path()])
            heads[name] = tree.grow(back, chance.randint(1, 8))
            waiting[name] = admission.ask(name, heads[name], 5)
        else:
            del turns[name]
            admission.left(name)
    assert not waiting
    assert not turns
    assert admission.held == admission.running == admission.holders == 0
