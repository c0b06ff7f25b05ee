"""The belief about what is cached."""

from __future__ import annotations

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
