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

__all__ = ["Agent", "Deed", "Host", "Outcome", "Reply", "ToolRefused"]


class Outcome(enum.StrEnum):
    """How an agent stopped. A stop is data, never an exception."""

    FINISHED = "finished"
    FAILED = "failed"
    OUT_OF_BUDGET = "out_of_budget"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tool call came to, as its agent is told.

    `note` is about the result and no part of it: what was cut, how a command ended. `did` is what it changed outside
    the agent's context, in words, for the report to a past self. `told` names the agents whose results it holds.
    """

    text: str
    note: str = ""
    error: bool = False
    did: str = ""
    told: tuple[str, ...] = ()


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Something an agent did that a rewind does not undo. `segment` was its head then: numbers grow with time."""

    segment: int
    text: str


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
    tasks: tuple[str, ...] = ()  # a newcomer's: once it has begun it becomes a copy for each, or does the only one
    questions: int = 0  # rounds of questions that a newcomer may still ask before it begins
    begun: bool = True
    answers: bool = False  # a host fork: it exists to answer questions
    reviews: bool = False  # it ends with a verdict on its parent's work
    accepted: bool | None = None  # its verdict
    returned: dict[int, str] = {}  # its results that were not accepted: the segment that finished, and why
    place: str | None = None  # the agent in whose isolated copy of the files it works; None: the run's directory
    children: list[str] = []
    name: str = ""  # of an agent's own making, as is the description: for whoever reads
    description: str = ""
    outcome: Outcome | None = None
    result: str = ""
    changes: str = ""  # what it changed in its isolated copy, in a line
    paused: bool = False  # a person wants it, and all that it started, to take no turns for a while
    interrupted: bool = False  # the head's turn was aborted, and goes on
    cut: bool = False  # the head's turn ended at a limit, not where the model would have ended it
    started: dict[int, str] = {}  # calls of the head's turn that began, by index: what they call
    replies: dict[int, Reply] = {}  # calls of the head's turn that ended
    delivered: dict[str, int] = {}  # children whose results it was told, and the segment that told it
    last_result: str = ""  # what the last call of its last turn came to, without notes
    letters: list[str] = []  # the ids of those that it was told
    deeds: list[Deed] = []
    turns: int = 0
    rewinds: int = 0
    successions: int = 0
    sampled_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    activity: str = ""  # what it is doing, for people who watch


class Host(Protocol):
    """What the runtime does for an agent. Every effect is journaled before it is carried out."""

    @property
    def chat(self) -> Chat: ...
    def files(self, agent: Agent) -> FileTree:
        """The files that the agent works on."""
        ...

    def sandbox(self, agent: Agent) -> Sandbox:
        """Where its commands run."""
        ...

    @property
    def tools(self) -> Mapping[str, type[object]]: ...

    def output_path(self, agent: Agent) -> Path:
        """Where the whole of a long output goes; another one for every call."""
        ...

    def shown_path(self, path: Path) -> str:
        """A path as an agent may write it: relative to the working directory."""
        ...

    def results_of(self, agent: Agent, name: str) -> list[str] | None:
        """The result of the agent `name`, which `agent` started and which has finished; None for any other name.

        `results` stands for all of them, in the order in which they were started.
        """
        ...

    def lines_of(self, agent: Agent) -> list[str]:
        """Those results as the agent is told of them, each after the name of whose it is."""
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

    async def fork(
        self, agent: Agent, tasks: Sequence[str], *, at: str | None, wait: bool, isolated: bool, tokens: int | None
    ) -> Reply:
        """Copy the agent once per task, as it is or as it was at checkpoint `at`; wait for the results, or not.

        Called again for a turn that has forked already (after a crash), it makes no more copies. Raises ToolRefused.
        """
        ...

    async def rewind(self, agent: Agent, to: str, report: str) -> None:
        """Move the agent back to checkpoint `to`, with a report. Raises ToolRefused."""
        ...

    async def spawn(
        self,
        agent: Agent,
        tasks: Sequence[str],
        *,
        brief: str,
        questions: int | None,
        wait: bool,
        tokens: int | None,
    ) -> Reply:
        """Start a newcomer that is onboarded for all tasks; where `questions` is None, one for each task that is not.

        Called again for a turn that has spawned already, it makes no more. Raises ToolRefused.
        """
        ...

    async def ask(self, agent: Agent, questions: Sequence[str]) -> Reply:
        """Have a fork of whoever started the agent answer. Raises ToolRefused."""
        ...

    async def begin(self, agent: Agent, understanding: str) -> Reply:
        """End the agent's onboarding: it goes on with its only task, or ends with what its copies found.

        Raises ToolRefused.
        """
        ...

    async def send(self, agent: Agent, to: Sequence[str], subject: str, body: str, *, in_reply_to: str) -> Reply:
        """Deliver a letter to agents, to `all` or to `human`. Raises ToolRefused."""
        ...

    async def wait_for(self, agent: Agent, names: Sequence[str], until: str, timeout_s: float | None) -> Reply:
        """Wait for children, and return the results of those that ended. Mail ends the wait early.

        Raises ToolRefused.
        """
        ...

    async def cancel(self, agent: Agent, name: str) -> Reply:
        """End a descendant and all that it started. Raises ToolRefused."""
        ...

    async def merge(self, agent: Agent, name: str) -> Reply:
        """Apply what an isolated child changed to the agent's own directory. Raises ToolRefused."""
        ...

    async def introduce(self, agent: Agent, other: str, name: str, description: str) -> Reply:
        """Name and describe the agent itself (`other` is ""), or one that it started. Raises ToolRefused."""
        ...

    async def judge(self, agent: Agent, *, accepted: bool, comments: str) -> None:
        """End a reviewer with its verdict. Raises ToolRefused for any other agent."""
        ...

    async def finish(self, agent: Agent, result: str) -> Reply:
        """End the agent with its result; where the result is examined first, tell it what to revise."""
        ...
