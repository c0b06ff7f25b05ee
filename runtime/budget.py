"""What a subtree of agents may spend, and what it has spent. Pure: no clock, no task.

Owns limits, spending and reservations. An `Account` belongs to one agent and draws on its parent's, so no way of
creating an agent gets around the budget of those above it.

Invariants:
- `spent` only grows, and is the sum over the subtree; it follows from the journal alone;
- `reserved` is what requests in flight may still spend; spent + reserved never exceeds a limit by a reservation;
- a reservation is settled exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

__all__ = ["Account", "Budget"]


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one subtree; None means no limit of its own. Tokens, turns, seconds, and numbers of agents.

    The defaults stop a runaway, not honest work: two hundred thousand sampled tokens are a long day of one agent.
    """

    sampled_tokens: int | None = 200_000
    computed_tokens: int | None = None
    turns: int | None = 2_000
    seconds: float | None = None
    depth: int = 4  # generations below the agent whose budget this is
    agents: int = 256  # alive at once, that agent included


class Account:
    """One agent's view of the budgets above it."""

    __slots__ = (
        "alive",
        "began",
        "budget",
        "computed_tokens",
        "deadline",
        "depth",
        "owner",
        "parent",
        "reserved",
        "sampled_tokens",
        "turns",
    )

    def __init__(
        self,
        parent: Account | None = None,
        budget: Budget | None = None,
        depth: int = 0,
        began: float = 0.0,
        owner: str = "",
    ) -> None:
        self.parent = parent
        self.owner = owner  # its agent; "" for the run's own account
        self.budget = budget
        self.depth = depth  # of its agent: 0 for a root, and for the run's own account
        self.began = began  # seconds of the run before it
        self.deadline: float | None = None  # on a clock that the swarm reads; this module never does
        self.alive = 0
        self.sampled_tokens = 0
        self.computed_tokens = 0
        self.turns = 0
        self.reserved = 0

    def chain(self) -> Iterator[Account]:
        """This account and those above it."""
        at: Account | None = self
        while at is not None:
            yield at
            at = at.parent

    def reserve(self, tokens: int, *, goes_on: bool = False) -> int:
        """Set aside up to `tokens` sampled tokens for one turn; returns how many were granted, 0 when it is over.

        A turn that `goes_on` after an interruption has been counted already. `used_up` says which limit it was.
        """
        if self.used_up(goes_on=goes_on) is not None:
            return 0
        granted = tokens
        for account in self.chain():
            if account.budget is not None and account.budget.sampled_tokens is not None:
                granted = min(granted, account.budget.sampled_tokens - account.sampled_tokens - account.reserved)
        for account in self.chain():
            account.reserved += granted
        return granted

    def used_up(self, *, goes_on: bool = False) -> str | None:
        """Which limit keeps this account's agent from another turn, in words; None if none does."""
        for account in self.chain():
            limit = account.budget
            if limit is None:
                continue
            for spent, most, name in (
                (account.turns, None if goes_on else limit.turns, "turns"),
                (account.computed_tokens, limit.computed_tokens, "computed_tokens"),
                (account.sampled_tokens + account.reserved, limit.sampled_tokens, "sampled_tokens"),
            ):
                if most is not None and spent >= most:
                    return account.over(name, most)
        return None

    def over(self, name: str, most: float) -> str:
        """The sentence for a limit of this account that was reached. `name` is a field of Budget."""
        return f"the budget is used up: {most} {name.replace('_', ' ')} ({self.limit_name(name)})"

    def limit_name(self, name: str) -> str:
        """Whose limit it is, and how a person would change it."""
        return f"the {name} of {self.owner}" if self.owner else f"--budget {name}"

    def settle(self, granted: int) -> None:
        """Give a reservation back, after its turn was charged or came to nothing."""
        for account in self.chain():
            account.reserved -= granted

    def lived(self, change: int) -> None:
        """Count an agent of this subtree that was born (1) or ended (-1)."""
        for account in self.chain():
            account.alive += change

    def refusal(self, newcomers: int) -> str | None:
        """Why this account's agent may not create `newcomers` agents now, in words; None if it may."""
        for account in self.chain():
            limit = account.budget
            if limit is None:
                continue
            if self.depth + 1 - account.depth > limit.depth:
                most = f"agents may be {limit.depth} generations deep, and you are there: do it yourself"
                return f"{most} ({account.limit_name('depth')})"
            if account.alive + newcomers > limit.agents:
                most = f"{account.alive} agents are alive and at most {limit.agents} may be: create fewer, or wait"
                return f"{most} ({account.limit_name('agents')})"
        return None

    def charge(self, sampled: int, computed: int, *, turns: int = 1) -> None:
        """Book what was spent."""
        for account in self.chain():
            account.sampled_tokens += sampled
            account.computed_tokens += computed
            account.turns += turns

    def left(self) -> float:
        """The smallest share left of any limit, 0 to 1: what the status line shows."""
        share = 1.0
        for account in self.chain():
            limit = account.budget
            if limit is None:
                continue
            for spent, most in (
                (account.sampled_tokens, limit.sampled_tokens),
                (account.computed_tokens, limit.computed_tokens),
                (account.turns, limit.turns),
            ):
                if most is not None:
                    share = min(share, 1 - spent / most if most else 0.0)
        return max(share, 0.0)
