"""Which worker holds which family of contexts. Pure: no clock, no client, no task.

A family is every context with the same root segment: forks of forks share that root's KV, so they belong together.
Families are known by the segment itself and forgotten with it, so several runs can share the workers.

Invariants:
- a family is never split: while its worker lives, every one of its contexts is placed there;
- a new family goes to the live worker with the least load, and so does one whose worker died, when it is next asked
  for;
- load counts agents at work, that is sessions that were used and not released, and at least one for a family that
  nobody has used yet: families that are over weigh nothing, though what they left may still be found where it is.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from agents.context import Segment

__all__ = ["Family", "Placement"]


class Family:
    """Contexts with one root. `cold`: it moved, and nothing of it has been computed on its `worker` yet."""

    __slots__ = ("cold", "fresh", "sessions", "worker")

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.cold = False
        self.fresh = True  # nobody has used it yet
        self.sessions: set[str] = set()

    @property
    def load(self) -> int:
        """Agents at work, or expected."""
        return max(len(self.sessions), self.fresh)


class Placement:
    """Families on workers that are numbered from 0."""

    def __init__(self, workers: int) -> None:
        self.live = [True] * workers
        self._families: WeakKeyDictionary[Segment, Family] = WeakKeyDictionary()
        self._sessions: dict[str, tuple[set[int], set[Family]]] = {}  # where each was used, and for whom

    def family(self, context: Segment) -> Family:
        """The family of a context, placed: on a live worker if there is one. Takes time for the depth of the path."""
        *_, root = context.path()
        family = self._families.get(root)
        if family is None:
            family = self._families[root] = Family(self._lightest())
        elif not self.live[family.worker] and any(self.live):
            family.worker, family.cold = self._lightest(), True
        return family

    def use(self, family: Family, session: str) -> None:
        """A request of `session` goes to the family's worker."""
        family.fresh = False
        family.sessions.add(session)
        workers, families = self._sessions.setdefault(session, (set(), set()))
        workers.add(family.worker)
        families.add(family)

    def where(self, session: str) -> frozenset[int]:
        """The workers that a session has used."""
        workers, _families = self._sessions.get(session, (set(), set()))
        return frozenset(workers)

    def release(self, session: str) -> frozenset[int]:
        """The session is over. Returns the workers that have to be told."""
        workers, families = self._sessions.pop(session, (set(), set()))
        for family in families:
            family.sessions.discard(session)
        return frozenset(workers)

    def loads(self) -> list[int]:
        """The load of each worker."""
        loads = [0] * len(self.live)
        for family in self._families.values():
            loads[family.worker] += family.load
        return loads

    def _lightest(self) -> int:
        """Of the live workers, or of all where none lives, the first with the least load."""
        loads = self.loads()
        return min(range(len(loads)), key=lambda worker: (not self.live[worker], loads[worker]))
