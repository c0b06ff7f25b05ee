"""The supervisor of a run: who lives, who waits for whom, and what each agent's wishes come to.

Owns the tasks of the agents and implements their `Host`. Invariants:
- every agent that is alive has exactly one task, in the swarm's own task group;
- everything that happens goes through the `Recorder` first, so a killed run can be resumed;
- a failure of the engine or of a tool is an outcome of the agent it happened to; only bugs reach the group;
- whoever waits for an agent is told its outcome, whatever that is.

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
from anyio.abc import TaskGroup
from msgspec import structs

from agents.agent import live
from agents.chat import Chat
from agents.context import Origin, Segment
from agents.host import Agent, Outcome, Reply, ToolRefused
from agents.prompts import prompt
from agents.status import copy_text, result_line, status_line
from agents.tools import TOOLS, Tool, schema
from runtime.budget import Account, Budget
from runtime.engine.base import Capacity, Engine, EngineError, EngineRefused, Sampling
from runtime.recorder import Observer, Recorder
from runtime.records import (
    CallEnded,
    CallStarted,
    Closed,
    Copy,
    Ended,
    Forked,
    Given,
    Sampled,
    Settings,
    Started,
)
from runtime.state import RunState
from runtime.stats import Stats, count
from workspace import FileTree, RunLayout, Sandbox

__all__ = ["AgentHandle", "Result", "Swarm"]

# How long the engine gets to forget a session, or a request, once we are leaving: it is a courtesy to the cache.
RELEASE_SECONDS = 5.0
# A turn needs room for at least a short tool call; with less the context counts as full.
LEAST_TURN_TOKENS = 16


class Result:
    """How an agent ended: `outcome`, and its `text`."""

    __slots__ = ("outcome", "text")

    def __init__(self, outcome: Outcome, text: str) -> None:
        self.outcome = outcome
        self.text = text

    def __repr__(self) -> str:
        return f"Result({self.outcome}, {self.text!r})"


class AgentHandle:
    """An agent of a swarm, from Python."""

    __slots__ = ("_swarm", "id")

    def __init__(self, swarm: Swarm, id: str) -> None:
        self._swarm = swarm
        self.id = id

    @property
    def state(self) -> Agent:
        """What is known of it now. Read only."""
        return self._swarm.state.agents[self.id]

    async def result(self) -> Result:
        """Wait until it ends. Cancelling the wait leaves the agent alone."""
        return await self._swarm.wait(self.id)

    async def fork(self, tasks: Sequence[str]) -> list[AgentHandle]:
        """Copies of it as it is now, one for each task; they run at once. Raises ToolRefused past a limit."""
        return self._swarm.fork_now(self.id, tasks)

    def __repr__(self) -> str:
        return f"AgentHandle({self.id}, {self.state.outcome or 'alive'})"


class Swarm:
    """Agents on an engine, working on the files of one directory.

        async with Swarm(engine, directory="work", budget=Budget(sampled_tokens=200_000)) as swarm:
            lead = await swarm.start("What do the ledgers in ledgers/ add up to?")
            print((await lead.result()).text)

    Raises, on entering: EngineUnavailable, ModelNotFound, ChatError, WorkspaceError.
    """

    def __init__(
        self,
        engine: Engine,
        directory: str | Path = ".",
        *,
        budget: Budget | None = None,
        settings: Settings | None = None,
        tools: Mapping[str, type[Tool]] = TOOLS,
        chat: Chat | None = None,
        observers: Sequence[Observer] = (),
        resume: RunLayout | None = None,
    ) -> None:
        self._engine = engine
        self._directory = Path(directory)
        self._settings = settings or Settings()
        if budget is not None:
            self._settings = structs.replace(self._settings, budget=budget)
        self._tools = tools
        self._loaded_chat = chat
        self._observers = observers
        self._resume = resume
        self._ended: dict[str, anyio.Event] = {}
        self._stack = AsyncExitStack()
        self._group: TaskGroup
        self._recorder: Recorder
        self._capacity: Capacity
        self._chat: Chat
        self._files: FileTree
        self._sandbox: Sandbox
        self._deadline = float("inf")
        self._tag: str | None = None

    # -- life of the swarm ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._capacity = await self._engine.capacity()
        model = self._capacity.model
        chat, layout = self._loaded_chat, self._resume
        if chat is None:
            chat = await anyio.to_thread.run_sync(Chat.load, model)
        if layout is None:
            layout = await anyio.to_thread.run_sync(partial(RunLayout.create, self._directory))
        self._chat = chat
        self._recorder = Recorder(layout)
        self._recorder.read_with(chat)
        self._recorder.observers.extend(self._observers)
        try:
            if self._resume is not None:
                self._recorder.reopen()
                self._settings = self.state.settings
                if Path(self._settings.model).name != Path(model).name:
                    raise EngineRefused(
                        f"{layout.root}: the run was made with model {self._settings.model}, "
                        f"the engine serves {model}"
                    )
            self._files = FileTree.of_run(layout)
            self._sandbox = Sandbox.of_run(layout, unsandboxed=self._settings.unsandboxed)
            if self._settings.constrain:
                from runtime.engine.constrain import tool_call_tag

                schemas = [schema(tool)["function"] for tool in self._tools.values()]
                self._tag = tool_call_tag([(s["name"], s["parameters"]) for s in schemas])
            if self._settings.budget.seconds is not None:
                spent = self.state.last_at - self.state.started_at
                self._deadline = anyio.current_time() + self._settings.budget.seconds - spent
            self._group = await self._stack.enter_async_context(anyio.create_task_group())
        except BaseException:
            self._recorder.close()
            raise
        for agent in self.state.agents.values():
            self._watch_over(agent)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel("the swarm is being left")
        try:
            handled = await self._stack.__aexit__(kind, error, traceback)
            if error is None:
                self._close()
            return handled
        finally:
            self._recorder.close()

    def _close(self) -> None:
        for agent in list(self.state.agents.values()):
            if agent.outcome is None:
                self._recorder.commit(Ended(agent=agent.id, outcome=Outcome.CANCELLED))
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

    def statistics(self) -> Stats:
        """The bill so far."""
        return count(self.state)

    async def start(self, task: str) -> AgentHandle:
        """A new agent, with a context of its own and `task` as its first message."""
        if not self.state.run:
            settings = structs.replace(self._settings, model=self._capacity.model)
            self._recorder.open(settings, task)
            self._settings = settings
        account = self.state.account
        name = self.state.next_agent()
        tools = [] if self._chat.terse else [schema(tool) for tool in self._tools.values()]
        status = status_line(name, 0, 0, self._capacity.context_tokens, account.left())
        system = prompt("terse" if self._chat.terse else "system")
        tokens = self._chat.begin(system, f"{task}\n{status}", tools)
        self._recorder.commit(Started(agent=name, segment=self.state.next_segment, tokens=tuple(tokens), task=task))
        self._watch_over(self.state.agents[name])
        return AgentHandle(self, name)

    def handles(self) -> list[AgentHandle]:
        """Every agent of the run, oldest first."""
        return [AgentHandle(self, name) for name in self.state.agents]

    async def wait(self, agent: str) -> Result:
        """Wait until an agent ends."""
        await self._ended[agent].wait()
        ended = self.state.agents[agent]
        assert ended.outcome is not None
        return Result(ended.outcome, ended.result)

    def fork_now(self, agent: str, tasks: Sequence[str]) -> list[AgentHandle]:
        """Copy an agent at its head, from outside. The copies run; the agent itself does not notice."""
        origin = self.state.agents[agent]
        return [AgentHandle(self, copy.id) for copy in self._copy(origin, origin.head, tasks, called=False)]

    # -- Host: what agents ask of it ------------------------------------------------------------------------

    @property
    def chat(self) -> Chat:
        return self._chat

    @property
    def files(self) -> FileTree:
        return self._files

    @property
    def sandbox(self) -> Sandbox:
        return self._sandbox

    @property
    def tools(self) -> Mapping[str, type[object]]:
        return self._tools

    def output_path(self, agent: Agent) -> Path:
        """See Host."""
        return self.layout.output(agent.id, f"s{agent.head.id}-{len(agent.started)}")

    def shown_path(self, path: Path) -> str:
        """See Host."""
        return self.layout.relative(path)

    async def sample(self, agent: Agent) -> None:
        """See Host."""
        room = self._capacity.context_tokens - agent.head.length - 1
        if room < LEAST_TURN_TOKENS:
            await self._end(agent, Outcome.FAILED, f"its context is full ({agent.head.length} tokens)")
            return
        account = self._account(agent)
        granted = account.reserve(min(self._settings.turn_tokens, room))
        if not granted or anyio.current_time() >= self._deadline:
            account.settle(granted)
            await self._end(agent, Outcome.OUT_OF_BUDGET, "the budget is used up")
            return
        sampling = Sampling(
            max_new_tokens=granted,
            stop_token_ids=self._chat.stop_token_ids,
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            seed=self._settings.seed,
            structural_tag=self._tag,
        )
        agent.activity = "generating"
        try:
            with anyio.move_on_at(self._deadline) as scope:
                reply = await self._engine.generate(agent.head, sampling, session=self._session(agent))
                self._recorder.commit(
                    Sampled(
                        agent=agent.id,
                        segment=self.state.next_segment,
                        tokens=reply.tokens,
                        logprobs=reply.logprobs,
                        finish=reply.finish,
                        prompt_tokens=reply.prompt_tokens,
                        cached_tokens=reply.cached_tokens,
                        version=reply.weight_version,
                        seconds=reply.seconds,
                    )
                )
        except EngineError as error:
            await self._end(agent, Outcome.FAILED, f"the engine failed: {error}")
        else:
            if scope.cancelled_caught:
                await self._end(agent, Outcome.OUT_OF_BUDGET, "the time is used up")
        finally:
            account.settle(granted)

    async def give(self, agent: Agent, texts: Sequence[str]) -> None:
        """See Host."""
        *before, last = texts
        status = self._status(agent.id, agent, agent.head)
        tokens = self._chat.extend(agent.head, [*before, f"{last}\n{status}"])
        self._recorder.commit(Given(agent=agent.id, segment=self.state.next_segment, tokens=tuple(tokens)))

    async def call_started(self, agent: Agent, index: int, name: str, *, effects: bool) -> None:
        """See Host."""
        self._recorder.commit(CallStarted(agent=agent.id, index=index, name=name))
        if effects:
            await anyio.to_thread.run_sync(self._recorder.sync)

    async def call_ended(self, agent: Agent, index: int, reply: Reply) -> None:
        """See Host."""
        self._recorder.commit(CallEnded(agent=agent.id, index=index, reply=reply))

    async def fork(self, agent: Agent, tasks: Sequence[str]) -> str:
        """See Host."""
        children = [self.state.agents[name] for name in agent.children]
        copies = [child for child in children if child.called_by == agent.head.id]
        copies = copies or self._copy(agent, agent.head, tasks, called=True)
        agent.activity = f"waiting for {len(copies)} copies"
        for copy in copies:
            await self._ended[copy.id].wait()
        return "\n".join(result_line(copy) for copy in copies)

    async def finish(self, agent: Agent, result: str) -> None:
        """See Host."""
        await self._end(agent, Outcome.FINISHED, result)

    # -- the rest -------------------------------------------------------------------------------------------

    def _copy(self, origin: Agent, cut: Segment, tasks: Sequence[str], *, called: bool) -> list[Agent]:
        limits = self._settings.budget
        if origin.depth + 1 > limits.depth:
            raise ToolRefused(f"fork: copies go {limits.depth} generations deep, and you are there: do it yourself")
        if self.state.alive + len(tasks) > limits.agents:
            raise ToolRefused(
                f"fork: {self.state.alive} agents are alive and at most {limits.agents} may be: fork fewer"
            )
        # Every call of the turn needs an answer, and the first one's is what the copy is told.
        unanswered = len(self._chat.parse(cut).calls) - 1 if cut.origin is Origin.SAMPLED else 0
        copies = []
        for number, task in enumerate(tasks):
            name = self.state.next_agent(number)
            text = f"{copy_text(number + 1, len(tasks), task)}\n{self._status(name, origin, cut)}"
            tokens = self._chat.extend(cut, ["not done"] * unanswered + [text])
            segment = self.state.next_segment + number
            copies.append(Copy(agent=name, segment=segment, tokens=tuple(tokens), task=task))
        self._recorder.commit(Forked(agent=origin.id, segment=cut.id, called=called, copies=tuple(copies)))
        born = [self.state.agents[copy.agent] for copy in copies]
        for agent in born:
            self._watch_over(agent)
        return born

    def _watch_over(self, agent: Agent) -> None:
        self._ended[agent.id] = event = anyio.Event()
        if agent.outcome is None:
            self._group.start_soon(partial(self._live, agent), name=f"agent {agent.id}")
        else:
            event.set()

    async def _live(self, agent: Agent) -> None:
        with structlog.contextvars.bound_contextvars(run=self.state.run, agent=agent.id):
            try:
                await live(agent, self)
            finally:
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await self._engine.release(self._session(agent))

    async def _end(self, agent: Agent, outcome: Outcome, result: str) -> None:
        self._recorder.commit(Ended(agent=agent.id, outcome=outcome, result=result))
        self._ended[agent.id].set()

    def _status(self, name: str, account_of: Agent, head: Segment) -> str:
        left = self._account(account_of).left()
        return status_line(name, head.turn, head.length, self._capacity.context_tokens, left)

    def _account(self, agent: Agent) -> Account:
        return self.state.accounts[agent.id]

    def _session(self, agent: Agent) -> str:
        return f"{self.state.run}-{agent.id}"
