"""What an agent is, and what it may ask of whoever hosts it.

Owns the typed state of one agent and the `Host` protocol, the only door from this floor to the one above.

Invariants:
- `Agent` is changed only by the runtime's fold over journal records; the loop and the tools read it;
- identity and rights are these fields, never text that code reads back out of a prompt.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from agents.context import Segment

if TYPE_CHECKING:
    from agents.chat import Chat
    from workspace import FileTree, Sandbox

__all__ = ["Agent", "Host", "Outcome", "Reply", "ToolRefused"]


class Outcome(enum.StrEnum):
    """How an agent stopped. A stop is data, never an exception."""

    FINISHED = "finished"
    FAILED = "failed"
    OUT_OF_BUDGET = "out_of_budget"
    CANCELLED = "cancelled"


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tool call came to, as its agent is told. `wrote` and `ran` are its side effects, for reports."""

    text: str
    error: bool = False
    wrote: tuple[str, ...] = ()
    ran: str | None = None


class ToolRefused(Exception):
    """A call that cannot be carried out; the message tells the model what to do instead."""


class Agent(msgspec.Struct, kw_only=True):
    """The state of one agent. `copy` k of `copies` is its place among the siblings of its fork (0: not a copy)."""

    id: str
    parent: str | None
    task: str
    depth: int
    base: Segment  # its first own segment: what it was told when it came to be
    head: Segment
    copy: int = 0
    copies: int = 0
    called_by: int | None = None  # the segment whose turn created it, where a turn did
    children: list[str] = []
    outcome: Outcome | None = None
    result: str = ""
    started: set[int] = set()  # calls of the head's turn that began, by index
    replies: dict[int, Reply] = {}  # calls of the head's turn that ended
    turns: int = 0
    sampled_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    activity: str = ""  # what it is doing, for people who watch


class Host(Protocol):
    """What the runtime does for an agent. Every effect is journaled before it is carried out."""

    @property
    def chat(self) -> Chat: ...
    @property
    def files(self) -> FileTree: ...
    @property
    def sandbox(self) -> Sandbox: ...
    @property
    def tools(self) -> Mapping[str, type[object]]: ...

    def output_path(self, agent: Agent) -> Path:
        """Where the whole of a long output goes; another one for every call."""
        ...

    def shown_path(self, path: Path) -> str:
        """A path as an agent may write it: relative to the working directory."""
        ...

    async def sample(self, agent: Agent) -> None:
        """Extend the agent's head by one sampled turn, or end the agent: no budget, no room, no engine."""
        ...

    async def give(self, agent: Agent, texts: Sequence[str]) -> None:
        """Extend the agent's head by what it is told; the last text also gets mail and the status line."""
        ...

    async def call_started(self, agent: Agent, index: int, name: str, *, effects: bool) -> None:
        """Journal that a call begins; on disk before this returns where it has effects."""
        ...

    async def call_ended(self, agent: Agent, index: int, reply: Reply) -> None:
        """Journal what a call came to."""
        ...

    async def fork(self, agent: Agent, tasks: Sequence[str]) -> str:
        """Copy the agent once per task, wait for the copies, and return their results, a line each.

        Called again for a turn that has forked already (after a crash), it only waits. Raises ToolRefused.
        """
        ...

    async def finish(self, agent: Agent, result: str) -> None:
        """End the agent with its result."""
        ...
