"""Segments and contexts."""

import json

from hypothesis import given
from hypothesis import strategies as st

from agents.context import BLOCK, ENCODED_ANEW_TOKENS, Origin, Segment

# Ids of small vocabularies, and of any: they are kept in different sizes.
tokens = st.one_of(st.lists(st.integers(0, most), max_size=6) for most in (300, 2**16, 2**32 - 1))


@st.composite
def trees(draw: st.DrawFn) -> list[Segment]:
    """A random token tree, as the list of its segments."""
    segments: list[Segment] = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        parent = draw(st.sampled_from([None, *segments]))
        origin = draw(st.sampled_from(list(Origin)))
        segments.append(Segment(number, parent, origin, draw(tokens)))
    return segments


@given(trees())
def test_ids_are_the_path(tree: list[Segment]) -> None:
    """A head's ids, their JSON and its length are those of its path, however the tree was grown."""
    for segment in tree:
        slow: list[int] = []
        at: Segment | None = segment
        while at is not None:
            slow = list(at.tokens) + slow
            at = at.parent
        assert segment.ids() == slow
        assert json.loads(segment.json()) == slow
        assert segment.length == len(slow)


@given(tokens, st.lists(st.floats(-100, 0, width=32), max_size=6), trees())
def test_a_segment_keeps_what_it_was_given(added: list[int], logprobs: list[float], tree: list[Segment]) -> None:
    """Its own tokens and log-probabilities come back as they were, whatever it follows."""
    for parent in (None, *tree):
        segment = Segment(99, parent, Origin.SAMPLED, added, logprobs)
        assert list(segment.tokens) == added
        assert list(segment.logprobs) == logprobs


@given(trees())
def test_shared_prefix(tree: list[Segment]) -> None:
    """What two heads share is the longest run of segments that both paths begin with, whichever is asked."""
    for a in tree:
        for b in tree:
            common = [x for x in a.path() if x in set(b.path())]
            assert a.shared_with(b) is b.shared_with(a) is (common[0] if common else None)


def test_a_checkpoint_is_the_end_of_what_a_turn_was_told() -> None:
    """`t<n>` is the given segment after the n-th sampled one; turns not reached, or still open, have none."""
    root = Segment(1, None, Origin.GIVEN, [1, 2])
    turn = Segment(2, root, Origin.SAMPLED, [3])
    told = Segment(3, turn, Origin.GIVEN, [4])
    open_turn = Segment(4, told, Origin.SAMPLED, [5])
    assert open_turn.checkpoint(0) is root
    assert open_turn.checkpoint(1) is told
    assert open_turn.checkpoint(2) is None
    assert [s.turn for s in (root, turn, told, open_turn)] == [0, 1, 1, 2]


def test_a_turn_that_was_interrupted_and_went_on_is_whole() -> None:
    """All that it sampled, in order, and what it followed; nothing of the turn before."""
    told = Segment(1, None, Origin.GIVEN, [1])
    before = Segment(2, told, Origin.SAMPLED, [2])
    given = Segment(3, before, Origin.GIVEN, [3])
    first = Segment(4, given, Origin.SAMPLED, [4, 5])
    second = Segment(5, first, Origin.SAMPLED, [6])
    assert second.whole_turn() == (given, [4, 5, 6])
    assert before.whole_turn() == (told, [2])
    assert Segment(6, None, Origin.SAMPLED, [7]).whole_turn() == (None, [7])


def test_a_fork_copies_nothing() -> None:
    """Two heads on one trunk are the same objects below it, and a long trunk's JSON is encoded once."""
    trunk = Segment(1, None, Origin.GIVEN, range(ENCODED_ANEW_TOKENS))
    left, right = Segment(2, trunk, Origin.GIVEN, [1]), Segment(3, trunk, Origin.GIVEN, [2])
    left.json()
    encoded = trunk._json
    right.json()
    assert encoded is not None
    assert trunk._json is encoded
    assert left.parent is right.parent


def test_json_of_a_path_of_many_blocks_is_that_of_its_ids() -> None:
    """However deep a path is, wherever it is cut, whatever was forgotten: `json()` is `ids()` in JSON."""
    path: list[Segment] = []
    for number in range(3 * BLOCK + 5):
        tokens = list(range(number, number + number % 40))
        path.append(Segment(number, path[-1] if path else None, list(Origin)[number % 2], tokens))
    forks = [Segment(1000 + at, path[at], Origin.GIVEN, [7] * 2100) for at in (1, BLOCK - 2, BLOCK - 1, BLOCK, 150)]
    for again in range(2):
        for head in (*path[:: BLOCK // 2], path[-1], *forks):
            assert json.loads(head.json()) == head.ids(), again
        path[-1].forget_json(path[BLOCK // 2])
