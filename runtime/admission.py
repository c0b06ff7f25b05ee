"""Which context may be extended now, given a KV pool. A pure controller: it owns no task and reads no clock.

Past the point where living contexts need more tokens than the pool holds, every turn evicts what another one needs next
and throughput collapses. So an agent takes its turns as a *holder*: its whole path counts against the pool, from its
first turn until it ends or waits for others. Paths that share segments count them once, which is how a fork family fits
where strangers do not: we own the tree, so nothing here is a guess about prefixes.

Invariants:
- what is held and what running turns may still add never exceeds the pool;
- the senior of all holders can always go on, so there is progress; a newcomer that was passed over `PATIENCE` times is
  next, so nobody starves;
- a turn that runs is never preempted; an idle junior is, when a senior needs its room.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from agents.context import Segment

__all__ = ["Admission", "Ticket"]

# Newcomers looked at for a better fit than the first: enough to find a family's next copy, few enough to cost nothing.
WINDOW = 32
# Grants that may go past the first newcomer before it goes before all others.
PATIENCE = 64
# Turns that the first holders are expected to take, before any has ended: a short life of an agent.
FIRST_TURNS = 4
# How fast the expected growth of a holder follows what holders really grew by: the mean of the first ten that end, then
# a tenth of each.
LEARNING = 0.1


class Ticket:
    """A turn that is asked for: `agent` wants to extend `head` by at most `grows` sampled tokens."""

    __slots__ = ("agent", "grows", "head", "passed", "refused")

    def __init__(self, agent: str, head: Segment, grows: int) -> None:
        self.agent = agent
        self.head = head
        self.grows = grows
        self.passed = 0
        self.refused = False  # it cannot fit, even alone


class _Hold:
    __slots__ = ("began", "head", "order", "running")

    def __init__(self, order: int) -> None:
        self.head: Segment | None = None
        self.order = order  # how eldest come first
        self.began = 0  # path length at admission, or where the head last moved back to
        self.running = 0  # tokens its turn may still sample


class Admission:
    """The controller of one pool. `ask` and then `grants`; `ended` and `left` as things happen, and `grants` again."""

    def __init__(self, pool_tokens: int, page_tokens: int = 1) -> None:
        self.pool_tokens = pool_tokens
        self._slack = page_tokens - 1  # what a holder's last page may waste
        self.held = 0
        self.running = 0  # tokens that running turns may still add
        self.preempted = 0  # how often an idle junior lost its room
        self.lost: set[str] = set()  # who lost it, until somebody has told the engine (and emptied this)
        self._holders: dict[str, _Hold] = {}  # eldest first
        self._counts: dict[int, int] = {}  # holders whose path has the segment
        self._seniors: dict[str, Ticket] = {}  # holders that ask
        self._newcomers: dict[str, Ticket] = {}  # in the order they came
        self._began: dict[str, int] = {}  # of agents that lost their room: where they began all the same
        self._growth: float | None = None
        self._lives = 0  # that ended, and told how much holders grow
        self._admitted = 0

    @property
    def waiting(self) -> int:
        """Turns asked for and not granted."""
        return len(self._seniors) + len(self._newcomers)

    @property
    def holders(self) -> int:
        """Agents whose context counts against the pool."""
        return len(self._holders)

    def ask(self, agent: str, head: Segment, grows: int) -> Ticket:
        """Queue a turn. An agent has at most one."""
        ticket = Ticket(agent, head, grows)
        if (hold := self._holders.get(agent)) is not None:
            # After a rewind, or with a fresh context, what it held beyond is not needed: nobody waits for that room.
            self._recount(hold, head.shared_with(hold.head))
        (self._seniors if agent in self._holders else self._newcomers)[agent] = ticket
        return ticket

    def withdraw(self, agent: str) -> None:
        """Forget the turn an agent asked for, if it waits."""
        self._seniors.pop(agent, None)
        self._newcomers.pop(agent, None)

    def grants(self) -> list[Ticket]:
        """The turns that may start now (or never could: `refused`), in their order. They count as running."""
        granted: list[Ticket] = []
        for agent in sorted(self._seniors, key=lambda name: self._holders[name].order):  # few of many holders ask
            ticket = self._seniors.get(agent)
            if ticket is not None and self._continue(ticket):
                del self._seniors[agent]
                granted.append(ticket)
        # A senior that waits gets what becomes free before any newcomer does.
        while self._newcomers and not self._seniors:
            ticket = self._next_newcomer()
            if ticket is None:
                break
            del self._newcomers[ticket.agent]
            granted.append(ticket)
        return granted

    def ended(self, agent: str, head: Segment) -> None:
        """A granted turn is over, and the agent's head is now `head`. It stays a holder."""
        hold = self._holders[agent]
        self.running -= hold.running
        hold.running = 0
        self._recount(hold, head)

    def left(self, agent: str) -> None:
        """The agent waits for others, or is no more: its context may be evicted."""
        self.withdraw(agent)
        self._began.pop(agent, None)
        hold = self._holders.pop(agent, None)
        if hold is None:
            return
        self.running -= hold.running
        if hold.head is not None:
            grown = max(0, hold.head.length - hold.began)
            before = self._growth if self._growth is not None else float(grown)
            self._lives += 1
            self._growth = before + max(LEARNING, 1 / self._lives) * (grown - before)
        self._recount(hold, None)

    # -- the rest -------------------------------------------------------------------------------------------

    def _continue(self, ticket: Ticket) -> bool:
        hold = self._holders[ticket.agent]
        while self._new_tokens(ticket.head) + ticket.grows > self._free():
            junior = self._idle_junior(ticket.agent)
            if junior is None:
                # Alone and still too large: all that is held is its own path, so waiting would change nothing.
                ticket.refused = len(self._holders) == 1
                return ticket.refused
            self._preempt(junior)
            self._learn_at_least(ticket.head.length - hold.began)
        self._start(hold, ticket)
        return True

    def _next_newcomer(self) -> Ticket | None:
        first = next(iter(self._newcomers.values()))
        window = [first] if first.passed >= PATIENCE else list(islice(self._newcomers.values(), WINDOW))
        # What shares most with what is held costs least; of equals the deeper first, then who came first.
        ticket = min(window, key=lambda t: (self._new_tokens(t.head) / max(t.head.length, 1), -t.head.depth))
        need = self._new_tokens(ticket.head) + ticket.grows + self._slack
        if self._holders and not self._leaves_room(need):
            return None
        if need > self._free():
            ticket.refused = True
            return ticket
        if ticket is not first:
            first.passed += 1
        self._admitted += 1
        hold = self._holders[ticket.agent] = _Hold(self._admitted)
        hold.began = self._began.pop(ticket.agent, ticket.head.length)
        self.lost.discard(ticket.agent)
        self._start(hold, ticket)
        return ticket

    def _start(self, hold: _Hold, ticket: Ticket) -> None:
        self._recount(hold, ticket.head)
        hold.began = min(hold.began, ticket.head.length)
        hold.running = ticket.grows
        self.running += ticket.grows
        if self._growth is None:
            # Until holders have ended and shown better. Too low a guess lets in agents that are preempted, and computed
            # again; too high a one only makes the first of them wait for one another.
            self._growth = float(FIRST_TURNS * ticket.grows)

    def _free(self) -> int:
        return self.pool_tokens - self.held - self.running - self._slack * len(self._holders)

    def _leaves_room(self, need: int) -> bool:
        """Whether `need` tokens more leave room for what the holders will probably add."""
        free = self._free() - need
        most = (self._growth or 0.0) * len(self._holders)
        return most <= free or self._growth_to_come() <= free  # ten thousand are summed up only where it is close

    def _growth_to_come(self) -> float:
        """What the holders will probably still add: room that a newcomer must leave, or it would only be preempted."""
        expected = self._growth or 0.0
        return sum(
            max(0.0, expected - (hold.head.length - hold.began) - hold.running)
            for hold in self._holders.values()
            if hold.head is not None
        )

    def _learn_at_least(self, grown: int) -> None:
        """A holder that had to take a junior's room shows that holders grow by more than was expected.

        While none has ended it is taken to be half way: of a life that is under way no more is known.
        """
        if self._growth is not None:
            self._growth = max(self._growth, float(grown if self._lives else 2 * grown))

    def _idle_junior(self, senior: str) -> str | None:
        for name in reversed(self._holders):
            if name == senior:
                return None
            if not self._holders[name].running:
                return name
        return None

    def _preempt(self, agent: str) -> None:
        self.preempted += 1
        self.lost.add(agent)
        hold = self._holders.pop(agent)
        self._began[agent] = hold.began
        self._recount(hold, None)
        if (ticket := self._seniors.pop(agent, None)) is not None:
            ticket.passed = PATIENCE  # it was in before: it goes before those who never were
            self._newcomers = {agent: ticket, **self._newcomers}

    def _new_tokens(self, head: Segment) -> int:
        return sum(segment.added for segment in self._uncounted(head))

    def _uncounted(self, head: Segment) -> Iterator[Segment]:
        for segment in head.path():
            if segment.id in self._counts:
                return  # and so is all that leads to it
            yield segment

    def _recount(self, hold: _Hold, head: Segment | None) -> None:
        """Make `hold` count the path of `head` instead of the one it counted."""
        old, hold.head = hold.head, head
        # Both paths end in the part they share, which keeps its count: walk only what differs.
        gone, come = old, head
        added: list[Segment] = []
        while gone is not come:
            if come is not None and (gone is None or come.depth >= gone.depth):
                added.append(come)
                come = come.parent
            elif gone is not None:
                count = self._counts[gone.id] - 1
                if count:
                    self._counts[gone.id] = count
                else:
                    del self._counts[gone.id]
                    self.held -= gone.added
                gone = gone.parent
        for segment in reversed(added):
            count = self._counts.get(segment.id, 0)
            self._counts[segment.id] = count + 1
            if not count:
                self.held += segment.added
