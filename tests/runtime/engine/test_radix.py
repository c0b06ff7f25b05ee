"""The scripted engine's cache, beside a slow one that keeps whole sequences."""

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.radix import Lease, RadixTree

ids = st.lists(st.integers(0, 2), max_size=10)


def test_a_match_never_covers_a_whole_prompt() -> None:
    """The last token is always computed: its logits are needed."""
    tree = RadixTree(100)
    tree.insert([1, 2, 3])
    lease = tree.lock([1, 2, 3], 0)
    assert lease is not None
    assert lease.cached == 2


def test_pages() -> None:
    """With pages, only whole ones are kept and matched."""
    tree = RadixTree(100, page=4)
    tree.insert(list(range(10)))
    assert tree.resident == 8
    assert tree.lookup(list(range(7))) == 4


def test_referenced_prefixes_are_evicted_last() -> None:
    """Under pressure what no session references goes first, then the oldest; a released session protects nothing."""
    tree = RadixTree(10)
    tree.insert([1, 1, 1, 1], "a")
    tree.insert([2, 2, 2, 2])
    tree.insert([3, 3, 3, 3])
    assert tree.lookup([1, 1, 1, 1]) == 4
    assert tree.lookup([2, 2, 2, 2]) == 0
    tree.release("a")
    tree.lookup([3, 3, 3, 3])
    tree.insert([4, 4, 4, 4])
    assert tree.lookup([1, 1, 1, 1]) == 0


def test_a_session_keeps_its_branches_and_forgets_what_they_extend() -> None:
    """A longer context replaces the one it extends; branches are all kept; releasing leaves no reference."""
    tree = RadixTree(100)
    for sequence in ([1, 2], [1, 2, 3], [1, 2, 4]):
        tree.insert(sequence, "a")
    assert tree._root.refs == 2
    tree.release("a")
    assert tree._root.refs == 0
    assert tree.sessions == 0


@settings(max_examples=200)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["lock", "end", "insert", "release"]), ids, st.integers(0, 5)), max_size=40),
)
def test_the_pool_is_never_overcommitted(page: int, steps: list[tuple[str, list[int], int]]) -> None:
    """Whatever happens, resident and reserved tokens fit the pool, the count is right, and leases keep their prefix."""
    tree = RadixTree(16, page)
    held: list[tuple[Lease, list[int]]] = []
    for what, sequence, number in steps:
        if what == "lock" and sequence:
            lease = tree.lock(sequence, number)
            if lease is not None:
                assert lease.cached < len(sequence)
                held.append((lease, sequence))
        elif what == "end" and held:
            lease, sequence = held.pop(number % len(held))
            tree.unlock(lease)
            tree.insert(sequence, f"s{number}")
        elif what == "insert":
            tree.insert(sequence, f"s{number}" if number else None)
        elif what == "release":
            tree.release(f"s{number}")
        assert tree.resident >= 0
        assert tree.resident + tree.reserved <= tree.capacity
        assert tree.resident == _sum(tree._root)
        for lease, sequence in held:
            assert tree.lookup(sequence[: lease.cached]) == lease.cached
    for lease, _ in held:
        tree.unlock(lease)
    assert tree.reserved == 0
    tree.flush()
    assert tree.resident == tree.sessions == 0


@given(st.lists(ids, max_size=12), ids)
def test_lookup_equals_the_slow_twin(inserted: list[list[int]], asked: list[int]) -> None:
    """In a pool without pressure a lookup finds the longest common prefix with anything inserted."""
    tree = RadixTree(10_000)
    for sequence in inserted:
        tree.insert(sequence)

    def common(a: list[int], b: list[int]) -> int:
        return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

    assert tree.lookup(asked) == max((common(asked, s) for s in inserted), default=0)


def _sum(node: object) -> int:
    return len(node.key) + sum(_sum(child) for child in node.children.values())  # type: ignore[attr-defined]


def test_branches_of_one_session_are_all_kept_and_what_they_extend_counts_once() -> None:
    """A longer context takes the place of the one that it extends, and of no other; all go when the session does."""
    tree = RadixTree(20)
    tree.insert([1, 2, 3, 4], "s")
    tree.insert([1, 2, 3, 4, 5, 6], "s")
    tree.insert([1, 2, 9, 9], "s")
    tree.insert([7, 7, 7, 7], None)  # nobody's, and used last
    lease = tree.lock([8] * 9, 0)
    assert lease is not None
    assert [tree.lookup(ids) for ids in ([1, 2, 3, 4, 5, 6], [1, 2, 9, 9], [7, 7, 7, 7])] == [6, 4, 0]
    tree.unlock(lease)
    tree.insert([1, 2, 9, 9], "other")
    tree.release("s")
    assert tree.lock([8] * 16, 0) is not None
    assert [tree.lookup(ids) for ids in ([1, 2, 3, 4, 5, 6], [1, 2, 9, 9])] == [2, 4]


def test_what_a_lock_sets_aside_and_what_one_that_fails_leaves() -> None:
    """Room for the part of a prompt that is not there and for what may be sampled; nothing where that is too much."""
    tree = RadixTree(20)
    tree.insert(list(range(8)))
    lease = tree.lock([0, 1, 2, 3, 99, 98], 5)
    assert lease is not None
    assert (lease.cached, lease.reserved, tree.reserved) == (4, 7, 7)
    assert tree.lock(list(range(8)), 20) is None  # its own prefix is all that could be evicted, and it is locked
    assert tree.reserved == 7
    tree.unlock(lease)
    assert tree.lock([50] * 20, 0) is not None  # for which all must go
    assert (tree.resident, tree.evicted) == (0, 8)


def test_what_is_evicted_is_referenced_no_more() -> None:
    """By whatever number of sessions; each is forgotten with the last that it held."""
    tree = RadixTree(6)
    for session in ("a", "b"):
        tree.insert([1, 2, 3], session)
    tree.insert([1, 2, 4], "a")
    assert (tree._root.refs, tree.sessions) == (3, 2)
    assert tree.lock([9] * 6, 0) is not None
    assert (tree._root.refs, tree.sessions, tree.evicted) == (0, 0, 4)
