"""A radix tree over token ids with the bookkeeping of a paged KV pool: what is cached, locked, referenced, evicted.

Owns the accounting of the scripted engine. Follows what SGLang does (`UnifiedRadixCache` with session references):
matches and inserts are floored to whole pages, a match never covers a whole prompt, running requests lock their
path, and eviction takes leaves nobody references first, then those with fewer references, then the oldest.

Invariants: `resident + reserved <= capacity`; `resident` is the sum of the nodes' tokens; a node's locks and
references count the leases and session leaves at or below it. Knows no engine, request or clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["Lease", "RadixTree"]


class _Node:
    __slots__ = ("children", "key", "locks", "parent", "refs", "used")

    def __init__(self, key: tuple[int, ...], parent: _Node | None) -> None:
        self.key = key
        self.parent = parent
        self.children: dict[tuple[int, ...], _Node] = {}
        self.locks = 0
        self.refs = 0
        self.used = 0

    def up(self) -> Iterator[_Node]:
        at: _Node | None = self
        while at is not None:
            yield at
            at = at.parent


class Lease:
    """A running request's hold on the tree: `cached` tokens of its prompt were found, `reserved` more may come."""

    __slots__ = ("cached", "node", "reserved")

    def __init__(self, node: _Node, cached: int, reserved: int) -> None:
        self.node = node
        self.cached = cached
        self.reserved = reserved


class RadixTree:
    """The cache of a pool of `capacity` tokens in pages of `page` tokens."""

    def __init__(self, capacity: int, page: int = 1) -> None:
        self.capacity = capacity
        self.page = page
        self.resident = 0
        self.reserved = 0
        self.evicted = 0  # tokens, since the beginning
        self._root = _Node((), None)
        self._leaves: set[_Node] = set()
        self._sessions: dict[str, list[_Node]] = {}
        self._clock = 0

    @property
    def sessions(self) -> int:
        """How many sessions hold references."""
        return len(self._sessions)

    def lookup(self, ids: Sequence[int]) -> int:
        """How many leading tokens of `ids` are resident. Evicts and references nothing."""
        return self._split_at(tuple(ids[: self._floor(len(ids))]))[1]

    def lock(self, ids: Sequence[int], grows: int) -> Lease | None:
        """Hold the resident prefix of a prompt and reserve room for the rest and for `grows` sampled tokens.

        None, with nothing changed but evictions, where running requests leave too little room.
        """
        node, found = self._split_at(tuple(ids[: self._floor(len(ids) - 1)]))
        wanted = len(ids) - found + grows
        for n in node.up():
            n.locks += 1
        if not self._make_room(wanted):
            for n in node.up():
                n.locks -= 1
            return None
        self.reserved += wanted
        return Lease(node, found, wanted)

    def unlock(self, lease: Lease) -> None:
        """End a hold; its reservation is free again."""
        for n in lease.node.up():
            n.locks -= 1
        self.reserved -= lease.reserved

    def insert(self, ids: Sequence[int], session: str | None = None) -> None:
        """Make `ids` resident, as far as there is room for them, and let `session` reference them."""
        key = tuple(ids[: self._floor(len(ids))])
        node, found = self._split_at(key)
        rest = key[found:]
        if rest:
            node.locks += 1  # not evicted while room is made below it
            fits = self._make_room(len(rest))
            node.locks -= 1
            if not fits:
                rest = ()
        if rest:
            child = _Node(rest, node)
            node.children[rest[: self.page]] = child
            self._leaves.discard(node)
            self._leaves.add(child)
            self.resident += len(rest)
            node = child
        self._touch(node)
        if session is not None and node is not self._root:
            self._refer(session, node)

    def release(self, session: str) -> None:
        """Drop the references of a session. Unknown ones are ignored."""
        for leaf in self._sessions.pop(session, []):
            for n in leaf.up():
                n.refs -= 1

    def flush(self) -> None:
        """Forget everything that is not locked."""
        for session in list(self._sessions):
            self.release(session)
        while (leaf := self._victim()) is not None:
            self._drop(leaf)

    def _refer(self, session: str, node: _Node) -> None:
        above = set(map(id, node.up()))
        held = self._sessions.setdefault(session, [])
        for old in [n for n in held if id(n) in above]:  # a longer context replaces the one it extends
            held.remove(old)
            for n in old.up():
                n.refs -= 1
        held.append(node)
        for n in node.up():
            n.refs += 1

    def _floor(self, length: int) -> int:
        return max(length, 0) // self.page * self.page

    def _split_at(self, key: tuple[int, ...]) -> tuple[_Node, int]:
        """The node that ends exactly where `key` stops matching, split off if need be, and that length."""
        node, found = self._root, 0
        while found < len(key):
            child = node.children.get(key[found : found + self.page])
            if child is None:
                break
            same = _common(child.key, key[found : found + len(child.key)]) // self.page * self.page
            node, found = child if same == len(child.key) else self._split(child, same), found + same
        self._touch(node)
        return node, found

    def _split(self, node: _Node, at: int) -> _Node:
        assert node.parent is not None
        upper = _Node(node.key[:at], node.parent)
        upper.locks, upper.refs, upper.used = node.locks, node.refs, node.used
        node.parent.children[upper.key[: self.page]] = upper
        node.key, node.parent = node.key[at:], upper
        upper.children[node.key[: self.page]] = node
        return upper

    def _touch(self, node: _Node) -> None:
        self._clock += 1
        for n in node.up():
            n.used = self._clock

    def _make_room(self, wanted: int) -> bool:
        while self.capacity - self.resident - self.reserved < wanted:
            leaf = self._victim()
            if leaf is None:
                return False
            self._drop(leaf)
        return True

    def _victim(self) -> _Node | None:
        free = [leaf for leaf in self._leaves if leaf.locks == 0]
        return min(free, key=lambda n: (n.refs, n.used), default=None)

    def _drop(self, leaf: _Node) -> None:
        assert leaf.parent is not None
        for session, held in list(self._sessions.items()):
            if leaf in held:
                held.remove(leaf)
                for n in leaf.up():
                    n.refs -= 1
                if not held:
                    del self._sessions[session]
        self._leaves.discard(leaf)
        del leaf.parent.children[leaf.key[: self.page]]
        if not leaf.parent.children and leaf.parent is not self._root:
            self._leaves.add(leaf.parent)
        self.resident -= len(leaf.key)
        self.evicted += len(leaf.key)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Length of the common prefix, by halving: comparing slices is done in C."""
    if a == b:
        return len(a)
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
