"""What agents ask of a run, and what comes of it.

Owns the parts that answer: `Turns` (the engine), `Family` (who is whose), `Onboarding`, `Review`, `Mail`, `Places` and
the agents' tasks. Implements their `Host`. Invariants:
- everything that happens goes through the `Recorder` first, so a killed run can be resumed;
- a failure of the engine or of a tool is an outcome of the agent it happened to; bugs reach the group, and so does an
  engine that is gone altogether and stays away, which is nobody's outcome.

Does not know how a run is opened and closed, or what people ask of it: that is `swarm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup
from msgspec import structs

from agents.agent import live
from agents.chat import Chat
from agents.host import Agent, Outcome, Reply, ToolRefused
from agents.told import cut_turn_text, interview_note, result_line
from agents.tools import Tool, schema
from agents.tools.calc import RESULTS
from runtime.budget import Account, Budget
from runtime.engine.base import Capacity, Engine, EngineError, EngineUnavailable
from runtime.family import Family
from runtime.lives import Lives
from runtime.mail import Mail
from runtime.onboarding import Onboarding
from runtime.patience import Patience
from runtime.places import Places
from runtime.recorder import Recorder
from runtime.records import CallEnded, CallStarted, Ended, Given, Named, Settings
from runtime.review import Review
from runtime.telling import Telling
from runtime.turns import Taken, Turns
from workspace import BranchFailed, FileTree, Sandbox, harmless_name

__all__ = ["Hosting"]


class Hosting:
    """The `Host` of one run's agents, whose tasks are children of `group`.

    `project` is what agents are told of the directory's conventions and skills.
    """

    def __init__(
        self,
        engine: Engine,
        capacity: Capacity,
        recorder: Recorder,
        group: TaskGroup,
        *,
        settings: Settings,
        chat: Chat,
        tools: Mapping[str, type[Tool]],
        places: Places,
        project: str,
        patience_s: float,
    ) -> None:
        self._recorder = recorder
        self._group = group
        self._settings = settings
        self._chat = chat
        self._tools = tools
        self.state = recorder.state
        self.layout = recorder.layout
        self.places = places
        self.mail = Mail(recorder.layout, recorder.state)
        self.mail.open_office()
        self.telling = tell = Telling(chat, capacity, tools, self._account, project)
        self.family = Family(recorder, chat, tell.status)
        self.onboarding = Onboarding(recorder, self.family, tell.begin, tell.status)
        self._review = Review(recorder, self.family, tell.begin, tell.status)
        self.turns = Turns(engine, capacity, recorder, settings, chat.stop_token_ids, self._tag())
        self.lives = Lives(group, self._live)
        self._patience = Patience(engine, recorder, patience_s)
        self._watching = anyio.Lock()
        self._watched = False

    def begin_life(self, agent: Agent) -> Agent:
        """Let an agent that has not ended live; the same agent."""
        if agent.outcome is None:
            self.mail.open(agent)
            self.lives.begin(agent)
        return agent

    def close(self) -> None:
        """Cancel who still lives, on the record."""
        for agent in list(self.state.agents.values()):
            if agent.outcome is None:
                self._recorder.commit(Ended(agent=agent.id, outcome=Outcome.CANCELLED))

    async def watch_mail(self) -> None:
        """Notice what people drop into mailboxes from now on: nobody needs it before anybody waits."""
        async with self._watching:
            if not self._watched:
                await self._group.start(self.mail.watch, name="watch over mail")
                self._watched = True

    # -- Host: what agents ask of it ------------------------------------------------------------------------

    @property
    def chat(self) -> Chat:
        return self._chat

    @property
    def tools(self) -> Mapping[str, type[object]]:
        return self._tools

    def files(self, agent: Agent) -> FileTree:
        """See Host."""
        return self.places.files(agent)

    def sandbox(self, agent: Agent) -> Sandbox:
        """See Host."""
        return self.places.sandbox(agent)

    def output_path(self, agent: Agent) -> Path:
        """See Host."""
        return self.layout.output(agent.id, f"s{agent.head.id}-{len(agent.started)}")

    def shown_path(self, path: Path) -> str:
        """See Host."""
        return self.layout.relative(path)

    def results_of(self, agent: Agent, name: str) -> list[str] | None:
        """See Host."""
        if name == RESULTS:
            return [child.result for child in self.family.finished(agent)]
        found = self.state.agents.get(name)
        if found is None or not self.family.descends(found, agent) or found.outcome is not Outcome.FINISHED:
            return None
        return [found.result]

    def lines_of(self, agent: Agent) -> list[str]:
        """See Host."""
        return [result_line(child) for child in self.family.finished(agent)]

    async def sample(self, agent: Agent) -> None:
        """See Host."""
        await self.family.unpaused(agent)
        if self.onboarding.dallies(agent):
            self._end(agent, Outcome.FAILED, f"{agent.id} never began")
            return
        first = min(self._account(agent).chain(), key=self._deadline)
        deadline = self._deadline(first)
        taken = Taken.OUT_OF_TIME
        # No scope where there is no deadline: ten thousand agents wait here at once.
        with anyio.move_on_at(deadline) if deadline < math.inf else nullcontext():
            try:
                taken = await self.turns.take(agent)
            except EngineError as error:
                if not (isinstance(error, EngineUnavailable) and await self._outlasts(agent, error)):
                    self._end(agent, Outcome.FAILED, f"the engine failed: {error}")
                return
        if taken is Taken.YES:
            self._patience.answered()
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
        news = self.family.news(agent, told)
        letters, mail = self.mail.tell(agent)
        lines = [cut_turn_text(len(agent.head.tokens), self._settings.turn_tokens)] if agent.cut else []
        lines += [result_line(child) for child in news]
        tokens = tuple(self.telling.extension(agent, texts, lines, mail))
        self._recorder.commit(
            Given(
                agent=agent.id,
                segment=self.state.next_segment,
                tokens=tokens,
                told=tuple(sorted(told | {child.id for child in news})),
                mail=tuple(letter.id for letter in letters),
            )
        )
        self.mail.put_away(agent, letters)

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
        copies = self.family.of_this_turn(agent)
        if not copies:
            cut = self.family.cut(agent, at)
            budget = None if tokens is None else Budget(sampled_tokens=tokens, turns=None)
            copies = self.family.copy(agent, cut, tasks, called_by=agent.head.id, budget=budget, isolated=isolated)
            for copy in copies:
                self.begin_life(copy)
        if isolated:  # before the agent can go on and change the files that its copies begin with
            for copy in copies:
                with suppress(BranchFailed):  # which is the copy's own outcome
                    await self.places.settle(copy, agent)
        return await self._results(agent, copies) if wait else self.family.started(copies)

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
        newcomers = self.onboarding.spawn(agent, tasks, brief=brief, questions=questions, budget=budget)
        for newcomer in newcomers:
            self.begin_life(newcomer)
        reply = await self._results(agent, newcomers) if wait else self.family.started(newcomers)
        if questions is None:
            return reply
        path = self.shown_path(self.layout.interview(newcomers[0].id))
        return structs.replace(reply, text=f"{reply.text}\n{interview_note(path)}")

    async def ask(self, agent: Agent, questions: Sequence[str]) -> Reply:
        """See Host."""
        host = self.begin_life(self.onboarding.ask(agent, questions))
        reply = await self._results(agent, [host])
        answered = host.outcome is Outcome.FINISHED
        return structs.replace(reply, text=host.result if answered else reply.text, error=not answered)

    async def begin(self, agent: Agent, understanding: str) -> Reply:
        """See Host."""
        self.onboarding.begun(agent, understanding)
        if len(agent.tasks) == 1:
            return self.onboarding.first_words(agent)
        copies = self.family.of_this_turn(agent)
        if not copies:
            copies = self.family.copy(agent, agent.head, agent.tasks, called_by=agent.head.id)
            for copy in copies:
                self.begin_life(copy)
        reply = await self._results(agent, copies)
        # Its copies are all that is left of it: what they found is what it found.
        self._end(agent, Outcome.FINISHED, reply.text)
        return reply

    async def rewind(self, agent: Agent, to: str, report: str) -> None:
        """See Host."""
        self.family.rewind(agent, to, report)

    async def send(self, agent: Agent, to: Sequence[str], subject: str, body: str, *, in_reply_to: str) -> Reply:
        """See Host."""
        await anyio.to_thread.run_sync(self._recorder.sync)  # the turn that sends, before what it sends
        names = ", ".join(self.mail.send(agent, to, subject, body, in_reply_to))
        return Reply(text=f"sent to {names}", did=f"wrote to {names}: {subject[:100]}")

    async def wait_for(self, agent: Agent, names: Sequence[str], until: str, timeout_s: float | None) -> Reply:
        """See Host."""
        awaited = self.family.named(agent, names)
        agent.activity = f"waiting for {len(awaited)}" if until != "mail" else "waiting for mail"
        self.turns.park(agent)
        await self.watch_mail()
        return await self.family.results(awaited, until, timeout_s, partial(self.mail.arrived, agent))

    async def cancel(self, agent: Agent, name: str) -> Reply:
        """See Host."""
        stopped = self.family.cancel(agent, name)
        self.lives.cancel(stopped)
        return Reply(text=f"cancelled: {', '.join(a.id for a in stopped)}" if stopped else f"{name} had ended already")

    async def merge(self, agent: Agent, name: str) -> Reply:
        """See Host."""
        return await self.places.merge(self.family.child(agent, name), agent)

    async def introduce(self, agent: Agent, other: str, name: str, description: str) -> Reply:
        """See Host."""
        found = self.family.child(agent, other) if other and other != agent.id else agent
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

        async def see_out(reviewer: Agent) -> None:
            await self._results(agent, [self.begin_life(reviewer)])

        objection = await self._review.examine(agent, result, self.sandbox(agent), see_out)
        if not objection or self._review.over(agent):
            outcome = Outcome.REJECTED if objection else Outcome.FINISHED
            self._end(agent, outcome, result, await self.places.changes(agent))
        return Reply(text=objection, error=bool(objection))

    # -- the rest -------------------------------------------------------------------------------------------

    async def _live(self, agent: Agent) -> None:
        with structlog.contextvars.bound_contextvars(run=self.state.run, agent=agent.id):
            try:
                if await self._settle(agent):
                    await live(agent, self)
            finally:
                await self.turns.leave(agent)
                agent.head.forget_json(agent.base.parent)

    async def _settle(self, agent: Agent) -> bool:
        parent = self.state.agents[agent.parent] if agent.parent else None
        try:
            await self.places.settle(agent, parent)
        except BranchFailed as error:
            self._end(agent, Outcome.FAILED, str(error))
            return False
        return True

    async def _outlasts(self, agent: Agent, error: EngineUnavailable) -> bool:
        agent.activity = "waiting for the engine to come back"
        return await self._patience.outlasts(error)

    def _end(self, agent: Agent, outcome: Outcome, result: str, changes: str = "") -> None:
        self.lives.cancel(self.family.end(agent, outcome, result, changes)[1:])

    async def _results(self, agent: Agent, awaited: Sequence[Agent]) -> Reply:
        agent.activity = f"waiting for {len(awaited)}"
        self.turns.park(agent)
        return await self.family.results(awaited, "all", None)

    def _succeed(self, agent: Agent) -> None:
        if agent.head.turn == 0:  # even a context that holds nothing but the task is too long
            self._end(agent, Outcome.FAILED, f"its task does not fit its context ({agent.head.length} tokens)")
        else:
            self.family.succeed(agent, self.telling.begin)

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
