"""A run, from Python: opened, asked things by people, closed.

Owns the life of a run: its record, the task group that all its agents live in, and their `Hosting`, which answers what
the agents ask for. Does not know what an agent's wishes come to.

Leaving the block normally cancels the agents that still live and closes the run. Leaving it by an exception or by
cancellation leaves the run as it is on disk, to be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
import structlog
from msgspec import structs

from agents.chat import Chat
from agents.host import Outcome, ToolRefused
from agents.tools import TOOLS, Tool
from runtime.budget import Budget
from runtime.engine.base import Capacity, Engine, EngineRefused
from runtime.handle import AgentHandle, Result
from runtime.hosting import Hosting
from runtime.patience import PATIENCE_SECONDS
from runtime.places import Places
from runtime.recorder import Observer, Recorder
from runtime.records import Closed, Settings, Started
from runtime.state import RunState
from runtime.stats import Stats, count
from runtime.telling import read_project
from workspace import Limits, RunLayout, System

__all__ = ["Swarm"]

_log = structlog.get_logger(__name__)


class Swarm:
    """Agents on an engine, working on the files of one directory.

        async with Swarm(engine, directory="work", budget=Budget(sampled_tokens=200_000)) as swarm:
            lead = await swarm.start("What is the sum of oats in ledgers?")
            print((await lead.result()).text)

    Raises, on entering: EngineUnavailable, EngineRefused, ModelNotFound, ChatError, WorkspaceError.
    """

    def __init__(
        self,
        engine: Engine,
        directory: str | Path = ".",
        *,
        budget: Budget | None = None,
        limits: Limits | None = None,
        settings: Settings | None = None,
        tools: Mapping[str, type[Tool]] = TOOLS,
        chat: Chat | None = None,
        observers: Sequence[Observer] = (),
        resume: RunLayout | None = None,
        attended: bool = False,
        patience_s: float = PATIENCE_SECONDS,
        system: System | None = None,
    ) -> None:
        """`budget`, and `limits` of commands, take the place of those in `settings`.

        `attended`: carry out what people ask for by `ramet pause`, `continue` and `cancel` while it runs.

        `patience_s`: how long to wait for an engine that answered before and is gone. `system`: on which commands
        run, if not the machine's own; a run that is resumed has its own again.
        """
        self._system = system
        self._attended = attended
        self._patience_s = patience_s
        self._engine = engine
        self._directory = Path(directory)
        self._settings = settings or Settings()
        if budget is not None:
            self._settings = structs.replace(self._settings, budget=budget)
        if limits is not None:
            self._settings = structs.replace(self._settings, limits=limits)
        self._tools = tools
        self._loaded_chat = chat
        self._observers = observers
        self._resume = resume
        self._stack = AsyncExitStack()
        self._recorder: Recorder
        self._capacity: Capacity
        self._host: Hosting

    # -- life of the swarm ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._capacity = await self._engine.capacity()
        model = self._capacity.model
        chat, layout = self._loaded_chat, self._resume
        if chat is None:
            chat = await anyio.to_thread.run_sync(Chat.load, model)
        if layout is None:
            layout = await anyio.to_thread.run_sync(partial(RunLayout.create, self._directory))
        self._recorder = Recorder(layout)
        try:
            self._recorder.read_with(chat)
            self._recorder.observers.extend(self._observers)
            if self._resume is not None:
                self._reopen(model)
            settings = self._settings
            places = Places(layout, limits=settings.limits, unsandboxed=settings.unsandboxed, system=self._system)
            project = await anyio.to_thread.run_sync(read_project, layout.directory)
            self._group = anyio.create_task_group()
            self._host = Hosting(
                self._engine,
                self._capacity,
                self._recorder,
                self._group,
                settings=settings,
                chat=chat,
                tools=self._tools,
                places=places,
                project=project,
                patience_s=self._patience_s,
            )
            await self._stack.enter_async_context(self._group)
        except BaseException:
            self._recorder.close()
            raise
        if self._attended:
            await self._host.watch_mail()
            self._group.start_soon(self._attend, name="orders")
        # Nothing is awaited from here on: no agent takes a turn before whoever opened the swarm can look at it.
        for agent in self.state.agents.values():
            if agent.outcome is None:
                self._host.mail.reopen(agent)
            self._host.begin_life(agent)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel("the swarm is being left")
        try:
            handled = await self._stack.__aexit__(kind, error, traceback)
            if error is None:
                self._close()
                await self._host.places.clear()
            return handled
        finally:
            self._recorder.close()

    def _reopen(self, model: str) -> None:
        self._recorder.reopen()
        if not self.state.run:
            return  # it died before its header: it begins now
        self._settings = self.state.settings
        made_with = self._settings.model
        if Path(made_with).name != Path(model).name:
            raise EngineRefused(
                f"{self.layout.root}: the run was made with model {made_with}, the engine serves {model}"
            )

    def _close(self) -> None:
        self._host.close()
        root = next(iter(self.state.agents.values()), None)
        if root is not None and root.outcome is not None and self.state.outcome is None:
            self._recorder.commit(Closed(outcome=root.outcome, result=root.result))
            self._recorder.sync()

    # -- what people ask of it ------------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """Everything that is known of the run. Read only."""
        return self._recorder.state

    @property
    def layout(self) -> RunLayout:
        """Where the run's files are."""
        return self._recorder.layout

    @property
    def chat(self) -> Chat:
        """How the model's messages become tokens, and back: `chat.text(segment.tokens)`."""
        return self._host.chat

    def statistics(self) -> Stats:
        """The bill so far."""
        return count(self.state)

    async def start(self, task: str, *, budget: Budget | None = None) -> AgentHandle:
        """A new agent, with a context of its own and `task` as its first message; `budget` is for its subtree."""
        if not self.state.run:
            self._settings = structs.replace(self._settings, model=self._capacity.model)
            self._recorder.open(self._settings, task)
        name = self.state.next_agent()
        tokens = tuple(self._host.telling.begin(f"{task}\n{self._host.telling.status(name, None, None)}"))
        segment = self.state.next_segment
        self._recorder.commit(Started(agent=name, segment=segment, tokens=tokens, task=task, budget=budget))
        self._host.begin_life(self.state.agents[name])
        return AgentHandle(self, name)

    def handles(self) -> list[AgentHandle]:
        """Every agent of the run, oldest first."""
        return [AgentHandle(self, name) for name in self.state.agents]

    async def wait(self, name: str) -> Result:
        """Wait until an agent ends."""
        ended = await self._host.family.ended(name)
        assert ended.outcome is not None
        return Result(ended.outcome, ended.result)

    async def branch(
        self,
        name: str,
        tasks: Sequence[str],
        *,
        at: str | None = None,
        isolated: bool = False,
        budget: Budget | None = None,
    ) -> list[AgentHandle]:
        """Copy an agent from outside, whatever it is doing; it goes on. See `AgentHandle.fork`."""
        agent = self.state.agents[name]
        if at is None:
            await self._host.turns.interrupt(agent)
        cut = self._host.family.cut(agent, at)
        copies = self._host.family.copy(agent, cut, tasks, called_by=None, budget=budget, isolated=isolated)
        return [AgentHandle(self, self._host.begin_life(copy).id) for copy in copies]

    async def spawn_for(
        self, name: str, tasks: Sequence[str], *, brief: str, questions: int | None, budget: Budget | None
    ) -> list[AgentHandle]:
        """Start newcomers on an agent's behalf. See `AgentHandle.spawn`."""
        agent = self.state.agents[name]
        made = self._host.onboarding.newcomers(
            agent, tasks, brief=brief, questions=questions, budget=budget, called_by=None
        )
        return [AgentHandle(self, self._host.begin_life(newcomer).id) for newcomer in made]

    async def move_back(self, name: str, to: str, report: str) -> None:
        """Rewind an agent from outside. See `AgentHandle.rewind`."""
        agent = self.state.agents[name]
        if agent.outcome is not None:
            raise ToolRefused(f"{name} has ended")
        await self._host.turns.interrupt(agent)
        # Whatever it was doing stops here; its loop then goes on from the head that it has.
        await self._host.lives.halt(agent)
        try:
            self._host.family.rewind(agent, to, report)
        finally:
            self._host.begin_life(agent)

    async def introduce(self, name: str, called: str, description: str) -> None:
        """Name an agent from outside. See `AgentHandle.introduce`."""
        await self._host.introduce(self.state.agents[name], "", called, description)

    def pause(self, name: str, *, paused: bool) -> None:
        """Let an agent and all that it started take no new turns, or take them again. See `AgentHandle.pause`."""
        self._host.family.pause(self.state.agents[name], paused=paused)

    async def stop(self, name: str) -> None:
        """Cancel an agent and all that it started. See `AgentHandle.cancel`."""
        self._host.lives.cancel(self._host.family.end(self.state.agents[name], Outcome.CANCELLED, "cancelled"))

    async def _attend(self) -> None:
        while True:
            for order in await self._host.mail.orders():
                match order:
                    case ["cancel", name] if name in self.state.agents:
                        await self.stop(name)
                    case ["pause" | "continue" as verb, name] if name in self.state.agents:
                        self.pause(name, paused=verb == "pause")
                    case _:
                        _log.warning("not an order", words=order)
