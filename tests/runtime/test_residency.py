"""The belief about what is cached."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.context import Origin, Segment
from runtime.residency import Residency


def chain(*lengths: int, parent: Segment | None = None, first: int = 1) -> Segment:
    """A path of given and sampled segments in turn."""
    origins = (Origin.GIVEN, Origin.SAMPLED)
    for number, length in enumerate(lengths):
        parent = Segment(first + number, parent, origins[number % 2], [0] * length)
    assert parent is not None
    return parent


def test_what_was_computed_is_expected() -> None:
    """A context is expected whole but for its last token; one that goes on from it, up to where it was computed."""
    belief = Residency(1000)
    head = chain(10, 5)
    belief.computed(head)
    assert belief.expected(head) == 14
    assert belief.expected(chain(7, parent=head, first=3)) == 14
    assert belief.missing(chain(7, parent=head, first=3)) == 8


def test_pages_round_down() -> None:
    """With pages only whole ones are expected."""
    belief = Residency(1000, page_tokens=4)
    head = chain(10, 5)
    belief.computed(head)
    assert belief.expected(head) == 12


def test_what_a_reply_found_to_its_end_stays() -> None:
    """A reply that found exactly a segment leaves it in the belief, and takes what comes after."""
    belief = Residency(1000)
    head = chain(10, 5)
    belief.computed(head)
    assert belief.found(chain(7, parent=head, first=3), 10) == 4
    assert belief.expected(head) == 10


def test_a_full_pool_forgets_the_least_recently_used() -> None:
    """When more was computed than the pool holds, what was used longest ago is not expected any more."""
    belief = Residency(25)
    old, new = chain(10, 5, first=1), chain(10, 5, first=3)
    belief.computed(old)
    belief.computed(new)
    assert belief.expected(new) == 14
    assert belief.expected(old) < 14


def test_a_reply_that_found_less_is_believed() -> None:
    """A flush or a restart shows in the next reply: the shortfall is told, and nothing more is expected there."""
    belief = Residency(1000)
    head = chain(10, 5)
    belief.computed(head)
    assert belief.found(head, 14) == 0
    assert belief.found(head, 0) == 14
    assert belief.expected(head) == 0
    assert belief.found(head, 0) == 0


class Slow:
    """The same belief, walking whole paths: what `Residency` must equal."""

    def __init__(self, pool: int) -> None:
        self.pool, self.segments = pool, OrderedDict[int, int]()

    def expected(self, head: Segment) -> int:
        found = 0
        for segment in reversed(list(head.path())):
            if segment.id not in self.segments:
                break
            found = segment.length - (segment.origin is Origin.SAMPLED)
        return max(0, min(found, head.length - 1))

    def computed(self, head: Segment) -> None:
        for segment in head.path():
            self.segments[segment.id] = len(segment.tokens)
            self.segments.move_to_end(segment.id)
        while sum(self.segments.values()) > self.pool:
            self.segments.popitem(last=False)

    def found(self, head: Segment, cached: int) -> int:
        short = max(0, self.expected(head) - cached)
        for segment in head.path() if short else ():
            if segment.length <= cached:
                break
            self.segments.pop(segment.id, None)
        return short


@settings(deadline=None)
@given(
    st.integers(5, 60),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=20),
    st.lists(st.tuples(st.sampled_from(["computed", "found", "expected"]), st.integers(0, 30), st.integers(0, 40))),
)
def test_a_belief_that_walks_little_is_the_one_that_walks_it_all(
    pool: int, made: list[tuple[int, int]], steps: list[tuple[str, int, int]]
) -> None:
    """Whatever is computed, found missing and forgotten, in any tree: the same is expected of every head."""
    tree: list[Segment] = []
    for number, (parent, length) in enumerate(made):
        above = tree[parent % (number + 1)] if parent % (number + 1) < number else None
        tree.append(Segment(number, above, list(Origin)[length % 2], [0] * length))
    fast, slow = Residency(pool), Slow(pool)
    for step, which, cached in steps:
        head = tree[which % len(tree)]
        if step == "computed":
            fast.computed(head)
            slow.computed(head)
        elif step == "found":
            assert fast.found(head, cached) == slow.found(head, cached)
        assert [fast.expected(each) for each in tree] == [slow.expected(each) for each in tree]
