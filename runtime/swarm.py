"""The supervisor of a run: every agent's task, and what an agent's wishes come to.

Owns the tasks of the agents and implements their `Host`, from three parts: `Recorder` (what happened), `Turns` (the
engine) and `Family` (who is whose). Invariants:
- every agent that is alive has exactly one task, in the swarm's own task group;
- everything that happens goes through the `Recorder` first, so a killed run can be resumed;
- a failure of the engine or of a tool is an outcome of the agent it happened to; bugs reach the group, and so does an
  engine that is gone altogether and stays away, which is nobody's outcome.

Leaving the block normally cancels the agents that still live and closes the run. Leaving it by an exception or by
cancellation leaves the run as it is on disk, to be resumed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress
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
from agents.host import Agent, Outcome, Reply, ToolRefused
from agents.told import cut_turn_text, interview_note, project_text, result_line
from agents.tools import TOOLS, Tool, schema
from agents.tools.calc import RESULTS
from runtime.budget import Account, Budget
from runtime.engine.base import Capacity, Engine, EngineError, EngineRefused, EngineUnavailable
from runtime.family import Family
from runtime.handle import AgentHandle, Result
from runtime.mail import Mail
from runtime.onboarding import Onboarding
from runtime.places import Places
from runtime.recorder import Observer, Recorder
from runtime.records import CallEnded, CallStarted, Closed, Ended, Given, Named, Outage, Returned, Settings, Started
from runtime.review import Review
from runtime.state import RunState
from runtime.stats import Stats, count
from runtime.telling import Telling
from runtime.turns import Taken, Turns
from workspace import BranchFailed, FileTree, RunLayout, Sandbox, find_skills, harmless_name, read_conventions

__all__ = ["Swarm"]

_log = structlog.get_logger(__name__)

# How long the engine gets to forget a session once its agent is leaving: it is a courtesy to the cache.
RELEASE_SECONDS = 5.0
# How long an engine that has answered may be gone before the run stops, to be resumed: a server restarts in half a
# minute. First pause between looks, and the longest; with jitter, as several runs may wait for one server.
PATIENCE_SECONDS = 90.0
LOOK_SECONDS, MOST_LOOK_SECONDS = 0.5, 10.0


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
        settings: Settings | None = None,
        tools: Mapping[str, type[Tool]] = TOOLS,
        chat: Chat | None = None,
        observers: Sequence[Observer] = (),
        resume: RunLayout | None = None,
        attended: bool = False,
        patience_s: float = PATIENCE_SECONDS,
    ) -> None:
        """`attended`: carry out what people ask for by `ramet pause`, `continue` and `cancel` while it runs.

        `patience_s`: how long to wait for an engine that answered before and is gone.
        """
        self._attended = attended
        self._patience_s = patience_s
        self._engine = engine
        self._directory = Path(directory)
        self._settings = settings or Settings()
        if budget is not None:
            self._settings = structs.replace(self._settings, budget=budget)
        self._tools = tools
        self._loaded_chat = chat
        self._observers = observers
        self._resume = resume
        self._stack = AsyncExitStack()
        self._scopes: dict[str, anyio.CancelScope] = {}  # of the agents that have a task
        self._leaving: dict[str, anyio.Event] = {}  # of those whose task somebody waits to see over
        self._outage = anyio.Lock()  # held by the agent that looks for the engine on behalf of all
        self._answered = False  # the engine has, to this swarm
        self._back_at = -math.inf  # when it was last seen to be back
        self._watching = anyio.Lock()
        self._watched = False
        self._group: TaskGroup
        self._mail: Mail
        self._recorder: Recorder
        self._capacity: Capacity
        self._chat: Chat
        self._turns: Turns
        self._family: Family
        self._onboarding: Onboarding
        self._telling: Telling
        self._review: Review
        self._places: Places

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
        try:
            self._recorder.read_with(chat)
            self._recorder.observers.extend(self._observers)
            if self._resume is not None:
                self._reopen(model)
            self._places = Places(layout, unsandboxed=self._settings.unsandboxed)
            self._mail = Mail(layout, self._recorder.state)
            self._mail.open_office()
            self._telling = tell = Telling(
                chat,
                self._capacity,
                self._tools,
                self._account,
                await anyio.to_thread.run_sync(_project, layout.directory),
            )
            self._family = Family(self._recorder, chat, tell.status)
            self._onboarding = Onboarding(self._recorder, self._family, tell.begin, tell.status)
            self._review = Review(self._recorder, self._family, tell.begin, tell.status)
            self._turns = Turns(
                self._engine, self._capacity, self._recorder, self._settings, chat.stop_token_ids, self._tag()
            )
            self._group = await self._stack.enter_async_context(anyio.create_task_group())
        except BaseException:
            self._recorder.close()
            raise
        if self._attended:
            await self._watch_mail()
            self._group.start_soon(self._attend, name="orders")
        # Nothing is awaited from here on: no agent takes a turn before whoever opened the swarm can look at it.
        for agent in self.state.agents.values():
            if agent.outcome is None:
                self._mail.reopen(agent)
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
                await self._places.clear()
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

    async def start(self, task: str, *, budget: Budget | None = None) -> AgentHandle:
        """A new agent, with a context of its own and `task` as its first message; `budget` is for its subtree."""
        if not self.state.run:
            self._settings = structs.replace(self._settings, model=self._capacity.model)
            self._recorder.open(self._settings, task)
        name = self.state.next_agent()
        tokens = tuple(self._telling.begin(f"{task}\n{self._telling.status(name, None, None)}"))
        segment = self.state.next_segment
        self._recorder.commit(Started(agent=name, segment=segment, tokens=tokens, task=task, budget=budget))
        self._watch_over(self.state.agents[name])
        return AgentHandle(self, name)

    def handles(self) -> list[AgentHandle]:
        """Every agent of the run, oldest first."""
        return [AgentHandle(self, name) for name in self.state.agents]

    async def wait(self, name: str) -> Result:
        """Wait until an agent ends."""
        ended = await self._family.ended(name)
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
            await self._turns.interrupt(agent)
        cut = self._family.cut(agent, at)
        copies = self._family.copy(agent, cut, tasks, called_by=None, budget=budget, isolated=isolated)
        return [AgentHandle(self, self._watch_over(copy).id) for copy in copies]

    async def spawn_for(
        self, name: str, tasks: Sequence[str], *, brief: str, questions: int | None, budget: Budget | None
    ) -> list[AgentHandle]:
        """Start newcomers on an agent's behalf. See `AgentHandle.spawn`."""
        agent = self.state.agents[name]
        made = self._onboarding.newcomers(agent, tasks, brief=brief, questions=questions, budget=budget, called_by=None)
        return [AgentHandle(self, self._watch_over(newcomer).id) for newcomer in made]

    async def move_back(self, name: str, to: str, report: str) -> None:
        """Rewind an agent from outside. See `AgentHandle.rewind`."""
        agent = self.state.agents[name]
        if agent.outcome is not None:
            raise ToolRefused(f"{name} has ended")
        await self._turns.interrupt(agent)
        # Whatever it was doing stops here; its loop then goes on from the head that it has.
        left = self._leaving.setdefault(name, anyio.Event())
        self._scopes[name].cancel()
        await left.wait()
        try:
            self._family.rewind(agent, to, report)
        finally:
            self._watch_over(agent)

    def pause(self, name: str, *, paused: bool) -> None:
        """Let an agent and all that it started take no new turns, or take them again. See `AgentHandle.pause`."""
        self._family.pause(self.state.agents[name], paused=paused)

    async def stop(self, name: str) -> None:
        """Cancel an agent and all that it started. See `AgentHandle.cancel`."""
        self._stopped(self._family.end(self.state.agents[name], Outcome.CANCELLED, "cancelled"))

    # -- Host: what agents ask of it ------------------------------------------------------------------------

    @property
    def chat(self) -> Chat:
        return self._chat

    @property
    def tools(self) -> Mapping[str, type[object]]:
        return self._tools

    def files(self, agent: Agent) -> FileTree:
        """See Host."""
        return self._places.files(agent)

    def sandbox(self, agent: Agent) -> Sandbox:
        """See Host."""
        return self._places.sandbox(agent)

    def output_path(self, agent: Agent) -> Path:
        """See Host."""
        return self.layout.output(agent.id, f"s{agent.head.id}-{len(agent.started)}")

    def shown_path(self, path: Path) -> str:
        """See Host."""
        return self.layout.relative(path)

    def results_of(self, agent: Agent, name: str) -> list[str] | None:
        """See Host."""
        if name == RESULTS:
            return [child.result for child in self._family.finished(agent)]
        found = self.state.agents.get(name)
        if found is None or not self._family.descends(found, agent) or found.outcome is not Outcome.FINISHED:
            return None
        return [found.result]

    def lines_of(self, agent: Agent) -> list[str]:
        """See Host."""
        return [result_line(child) for child in self._family.finished(agent)]

    async def sample(self, agent: Agent) -> None:
        """See Host."""
        await self._family.unpaused(agent)
        if self._onboarding.dallies(agent):
            self._end(agent, Outcome.FAILED, f"{agent.id} never began")
            return
        first = min(self._account(agent).chain(), key=self._deadline)
        deadline = self._deadline(first)
        taken = Taken.OUT_OF_TIME
        # No scope where there is no deadline: ten thousand agents wait here at once.
        with anyio.move_on_at(deadline) if deadline < math.inf else nullcontext():
            try:
                taken = await self._turns.take(agent)
            except EngineError as error:
                if not (isinstance(error, EngineUnavailable) and await self._outlasted(agent, error)):
                    self._end(agent, Outcome.FAILED, f"the engine failed: {error}")
                return
        if taken is Taken.YES:
            self._answered = True
        elif taken is Taken.CONTEXT_FULL:
            self._succeed(agent)
        elif taken is Taken.OUT_OF_TIME and first.budget is not None:
            self._end(agent, Outcome.OUT_OF_BUDGET, first.over("seconds", first.budget.seconds or 0))
        else:
            why = self._account(agent).used_up(goes_on=agent.interrupted)
            self._end(agent, Outcome.OUT_OF_BUDGET, why or "the budget is used up")

    async def give(self, agent: Agent, texts: Sequence[str]) -> None:
        """See Host."""
        told = {name for reply in agent.replies.values() for name in reply.told}
        news = self._family.news(agent, told)
        letters = self._mail.unread(agent)
        lines = [cut_turn_text(len(agent.head.tokens), self._settings.turn_tokens)] if agent.cut else []
        lines += [result_line(child) for child in news]
        tokens = tuple(self._telling.extension(agent, texts, lines, [self._mail.text(letter) for letter in letters]))
        self._recorder.commit(
            Given(
                agent=agent.id,
                segment=self.state.next_segment,
                tokens=tokens,
                told=tuple(sorted(told | {child.id for child in news})),
                mail=tuple(letter.id for letter in letters),
            )
        )
        self._mail.put_away(agent, letters)

    async def call_started(self, agent: Agent, index: int, name: str, *, effects: bool) -> None:
        """See Host."""
        self._recorder.commit(CallStarted(agent=agent.id, index=index, name=name))
        if effects:
            await anyio.to_thread.run_sync(self._recorder.sync)

    async def call_ended(self, agent: Agent, index: int, reply: Reply) -> None:
        """See Host."""
        self._recorder.commit(CallEnded(agent=agent.id, index=index, reply=reply))

    async def fork(
        self, agent: Agent, tasks: Sequence[str], *, at: str | None, wait: bool, isolated: bool, tokens: int | None
    ) -> Reply:
        """See Host."""
        copies = self._family.of_this_turn(agent)
        if not copies:
            cut = self._family.cut(agent, at)
            budget = None if tokens is None else Budget(sampled_tokens=tokens, turns=None)
            copies = self._family.copy(agent, cut, tasks, called_by=agent.head.id, budget=budget, isolated=isolated)
            for copy in copies:
                self._watch_over(copy)
        if isolated:  # before the agent can go on and change the files that its copies begin with
            for copy in copies:
                with suppress(BranchFailed):  # which is the copy's own outcome
                    await self._places.settle(copy, agent)
        return await self._results(agent, copies) if wait else self._family.started(copies)

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
        """See Host."""
        budget = None if tokens is None else Budget(sampled_tokens=tokens, turns=None)
        newcomers = self._onboarding.spawn(agent, tasks, brief=brief, questions=questions, budget=budget)
        for newcomer in newcomers:
            self._watch_over(newcomer)
        reply = await self._results(agent, newcomers) if wait else self._family.started(newcomers)
        if questions is None:
            return reply
        path = self.shown_path(self.layout.interview(newcomers[0].id))
        return structs.replace(reply, text=f"{reply.text}\n{interview_note(path)}")

    async def ask(self, agent: Agent, questions: Sequence[str]) -> Reply:
        """See Host."""
        host = self._watch_over(self._onboarding.ask(agent, questions))
        reply = await self._results(agent, [host])
        answered = host.outcome is Outcome.FINISHED
        return structs.replace(reply, text=host.result if answered else reply.text, error=not answered)

    async def begin(self, agent: Agent, understanding: str) -> Reply:
        """See Host."""
        self._onboarding.begun(agent, understanding)
        if len(agent.tasks) == 1:
            return self._onboarding.first_words(agent)
        copies = self._family.of_this_turn(agent)
        if not copies:
            copies = self._family.copy(agent, agent.head, agent.tasks, called_by=agent.head.id)
            for copy in copies:
                self._watch_over(copy)
        reply = await self._results(agent, copies)
        # Its copies are all that is left of it: what they found is what it found.
        self._end(agent, Outcome.FINISHED, reply.text)
        return reply

    async def rewind(self, agent: Agent, to: str, report: str) -> None:
        """See Host."""
        self._family.rewind(agent, to, report)

    async def send(self, agent: Agent, to: Sequence[str], subject: str, body: str, *, in_reply_to: str) -> Reply:
        """See Host."""
        await anyio.to_thread.run_sync(self._recorder.sync)  # the turn that sends, before what it sends
        names = ", ".join(self._mail.send(agent, to, subject, body, in_reply_to))
        return Reply(text=f"sent to {names}", did=f"wrote to {names}: {subject[:100]}")

    async def wait_for(self, agent: Agent, names: Sequence[str], until: str, timeout_s: float | None) -> Reply:
        """See Host."""
        awaited = self._family.named(agent, names)
        agent.activity = f"waiting for {len(awaited)}" if until != "mail" else "waiting for mail"
        self._turns.park(agent)
        await self._watch_mail()
        return await self._family.results(awaited, until, timeout_s, partial(self._mail.arrived, agent))

    async def cancel(self, agent: Agent, name: str) -> Reply:
        """See Host."""
        stopped = self._family.cancel(agent, name)
        self._stopped(stopped)
        return Reply(text=f"cancelled: {', '.join(a.id for a in stopped)}" if stopped else f"{name} had ended already")

    async def merge(self, agent: Agent, name: str) -> Reply:
        """See Host."""
        return await self._places.merge(self._family.child(agent, name), agent)

    async def introduce(self, agent: Agent, other: str, name: str, description: str) -> Reply:
        """See Host."""
        found = self._family.child(agent, other) if other and other != agent.id else agent
        plain = harmless_name(" ".join(name.split()))
        self._recorder.commit(Named(agent=found.id, name=plain, description=description))
        return Reply(text=f"{found.id} is {plain}")

    async def judge(self, agent: Agent, *, accepted: bool, comments: str) -> None:
        """See Host."""
        self._review.judge(agent, accepted=accepted, comments=comments)
        self._end(agent, Outcome.FINISHED, comments)

    async def finish(self, agent: Agent, result: str) -> Reply:
        """See Host."""
        if agent.reviews:
            raise ToolRefused("finish: you are a reviewer: end with verdict(accept or revise, comments)")
        objection = await self._examined(agent, result) if self._review.wanted(agent) else ""
        if not objection:
            self._end(agent, Outcome.FINISHED, result, await self._places.changes(agent))
        elif len(agent.returned) >= self._settings.review_rounds:
            self._end(agent, Outcome.REJECTED, result, await self._places.changes(agent))
        return Reply(text=objection, error=bool(objection))

    async def _examined(self, agent: Agent, result: str) -> str:
        """What is wrong with a result, in words, "" if nothing is; recorded, so that a crash does not ask twice."""
        head = agent.head.id
        if head in agent.returned:
            return agent.returned[head]
        agent.activity = "being reviewed"
        objection = await self._review.check(agent, self.sandbox(agent))
        reviewer = None if objection else self._review.reviewer(agent, result)
        if reviewer is not None:
            await self._results(agent, [self._watch_over(reviewer)])
            objection = self._review.objection(reviewer)
        if objection:
            self._recorder.commit(Returned(agent=agent.id, segment=head, reason=objection))
        return objection

    # -- the rest -------------------------------------------------------------------------------------------

    def _watch_over(self, agent: Agent) -> Agent:
        """See that the agent has a task, unless it has ended."""
        if agent.outcome is None and agent.id not in self._scopes:
            self._mail.open(agent)
            scope = self._scopes[agent.id] = anyio.CancelScope()
            self._group.start_soon(self._live, agent, scope, name=f"agent {agent.id}")
        return agent

    async def _live(self, agent: Agent, scope: anyio.CancelScope) -> None:
        with structlog.contextvars.bound_contextvars(run=self.state.run, agent=agent.id), scope:
            try:
                if await self._settle(agent):
                    await live(agent, self)
            finally:
                self._turns.park(agent)
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await self._engine.release(self._turns.session(agent))
                agent.head.forget_json(agent.base.parent)
                del self._scopes[agent.id]
                if left := self._leaving.pop(agent.id, None):
                    left.set()

    async def _settle(self, agent: Agent) -> bool:
        parent = self.state.agents[agent.parent] if agent.parent else None
        try:
            await self._places.settle(agent, parent)
        except BranchFailed as error:
            self._end(agent, Outcome.FAILED, str(error))
            return False
        return True

    async def _outlasted(self, agent: Agent, error: EngineUnavailable) -> bool:
        """Whether the engine was gone, and is back: then the turn is simply due again. False where it answers.

        Raises `error` where it stays away: that is not this agent's failure, so the run stops here and can be resumed.
        """
        failed_at = anyio.current_time()
        agent.activity = "waiting for the engine to come back"
        async with self._outage:
            if self._back_at > failed_at:
                return True
            if await self._engine.healthy():
                return False
            pause_s = LOOK_SECONDS
            self._recorder.commit(Outage(reason=str(error)))
            while self._answered and anyio.current_time() < failed_at + self._patience_s:
                await anyio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, MOST_LOOK_SECONDS)
                if await self._engine.healthy():
                    self._back_at = anyio.current_time()
                    self._recorder.commit(Outage(over=True))
                    _log.info("the engine is back", gone_s=round(self._back_at - failed_at, 1))
                    return True
            raise error

    def _end(self, agent: Agent, outcome: Outcome, result: str, changes: str = "") -> None:
        self._stopped(self._family.end(agent, outcome, result, changes)[1:])

    def _stopped(self, agents: Sequence[Agent]) -> None:
        for agent in agents:
            if agent.id in self._scopes:
                self._scopes[agent.id].cancel("the agent was cancelled")

    async def _results(self, agent: Agent, awaited: Sequence[Agent]) -> Reply:
        agent.activity = f"waiting for {len(awaited)}"
        self._turns.park(agent)
        return await self._family.results(awaited, "all", None)

    async def _attend(self) -> None:
        while True:
            for order in await self._mail.orders():
                match order:
                    case ["cancel", name] if name in self.state.agents:
                        await self.stop(name)
                    case ["pause" | "continue" as verb, name] if name in self.state.agents:
                        self.pause(name, paused=verb == "pause")
                    case _:
                        _log.warning("not an order", words=order)

    async def _watch_mail(self) -> None:
        """Notice what people drop into mailboxes from now on: nobody needs it before anybody waits."""
        async with self._watching:
            if not self._watched:
                await self._group.start(self._mail.watch, name="watch over mail")
                self._watched = True

    def _succeed(self, agent: Agent) -> None:
        if agent.head.turn == 0:  # even a context that holds nothing but the task is too long
            self._end(agent, Outcome.FAILED, f"its task does not fit its context ({agent.head.length} tokens)")
        else:
            self._family.succeed(agent, self._telling.begin)

    def _tag(self) -> str | None:
        if not self._settings.constrain:
            return None
        from runtime.engine.constrain import tool_call_tag

        functions = [schema(tool)["function"] for tool in self._tools.values()]
        return tool_call_tag([(function["name"], function["parameters"]) for function in functions])

    def _account(self, agent: Agent | None) -> Account:
        return self.state.account if agent is None else self.state.accounts[agent.id]

    def _deadline(self, account: Account) -> float:
        """When the time of an account's budget is over, on the event loop's clock."""
        limit = account.budget.seconds if account.budget is not None else None
        if limit is None:
            return math.inf
        if account.deadline is None:
            account.deadline = anyio.current_time() + limit - (self.state.active_s - account.began)
        return account.deadline


def _project(directory: Path) -> str:
    skills = [(skill.name, skill.description, skill.path) for skill in find_skills(directory)]
    return project_text(read_conventions(directory), skills)
