"""Relations between agents: who is whose copy, who waits for whom, who is told what.

Owns forks, waiting, cancelling, rewinding and succession: everything that re-points a head or makes a new one. Each is
one record, so a crash leaves it done or not done. Invariants:
- limits on depth and on living agents hold here, for every way of creating an agent;
- a child's result is told to its parent exactly once, by the call that waited for it or as news;
- whoever waits for an agent is told its outcome. Knows neither the engine nor how a turn is taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import anyio

from agents.chat import Chat
from agents.context import Origin, Segment
from agents.host import Agent, Deed, Outcome, Reply, ToolRefused
from agents.told import copy_text, result_line, rewind_text, started_text, succession_text
from runtime.budget import Budget
from runtime.recorder import Recorder
from runtime.records import Copy, Ended, Forked, Paused, Rewound, Succeeded

__all__ = ["Family"]

NOT_DONE = "not done: you are a copy now"


class Family:
    """The agents of a run as relatives. `status(agent id, account of, head)` makes a status line."""

    def __init__(
        self, recorder: Recorder, chat: Chat, status: Callable[[str, Agent | None, Segment | None], str]
    ) -> None:
        self._recorder = recorder
        self._chat = chat
        self._status = status
        self._unpaused = anyio.Event()  # replaced whenever somebody is paused or is no longer
        self._ended: dict[str, anyio.Event] = {}  # of those that somebody waits for

    # -- ends -----------------------------------------------------------------------------------------------

    def end(self, agent: Agent, outcome: Outcome, result: str, changes: str = "") -> list[Agent]:
        """The agent stops, and with it the living agents that its turns created. Returns all that stopped."""
        if agent.outcome is not None:
            return []
        self._recorder.commit(Ended(agent=agent.id, outcome=outcome, result=result, changes=changes))
        if awaited := self._ended.pop(agent.id, None):
            awaited.set()
        stopped = [agent]
        for child in self.children(agent):
            if child.outcome is None:
                stopped += self.end(child, Outcome.CANCELLED, f"{agent.id} has ended")
        return stopped

    def cancel(self, agent: Agent, name: str) -> list[Agent]:
        """End a descendant of `agent`. Raises ToolRefused for anybody else."""
        found = self._recorder.state.agents.get(name)
        if found is None or not self.descends(found, agent):
            raise ToolRefused(f"cancel: {name!r} is no agent that you started: {self._names(self.children(agent))}")
        return self.end(found, Outcome.CANCELLED, f"cancelled by {agent.id}")

    def pause(self, agent: Agent, *, paused: bool) -> None:
        """Let the agent and all that it started take no new turns, or take them again."""
        if agent.outcome is None and agent.paused != paused:
            self._recorder.commit(Paused(agent=agent.id, paused=paused))
            self._unpaused.set()
            self._unpaused = anyio.Event()

    async def unpaused(self, agent: Agent) -> None:
        """Wait until neither the agent nor any of those it comes from is paused."""
        agents = self._recorder.state.agents
        while agent.paused or any(agents[name].paused for name in self._ancestors(agent)):
            agent.activity = "paused"
            await self._unpaused.wait()

    def descends(self, agent: Agent, other: Agent) -> bool:
        """Whether `agent` was started by `other`, or by an agent that was, and so on."""
        return other.id in self._ancestors(agent)

    async def ended(self, name: str) -> Agent:
        """Wait until an agent ends."""
        agent = self._recorder.state.agents[name]
        if agent.outcome is None:
            await self._ended.setdefault(name, anyio.Event()).wait()
        return agent

    # -- forks ----------------------------------------------------------------------------------------------

    def children(self, agent: Agent) -> list[Agent]:
        """The agents that its turns created, in order."""
        agents = self._recorder.state.agents
        return [agents[name] for name in agent.children if agents[name].called_by is not None]

    def finished(self, agent: Agent) -> list[Agent]:
        """Those that did a task for it and finished; of a newcomer with several tasks, the copies that it became."""
        at_work = [child for child in self.children(agent) if not (child.answers or child.reviews)]
        shares = [self.finished(child) if len(child.tasks) > 1 else [child] for child in at_work]
        return [one for share in shares for one in share if one.outcome is Outcome.FINISHED]

    def of_this_turn(self, agent: Agent) -> list[Agent]:
        """The copies that the agent's present turn has made already: after a crash it makes no others."""
        return [child for child in self.children(agent) if child.called_by == agent.head.id]

    def cut(self, agent: Agent, at: str | None) -> Segment:
        """Where a fork cuts: the agent's head, or the checkpoint `at`. Raises ToolRefused."""
        return agent.head if at is None else self._checkpoint(agent, at)

    def refuse(self, agent: Agent, newcomers: int) -> None:
        """Raise ToolRefused if the agent may not create so many."""
        refusal = self._recorder.state.accounts[agent.id].refusal(newcomers)
        if refusal:
            raise ToolRefused(refusal)

    def copy(
        self,
        agent: Agent,
        cut: Segment,
        tasks: Sequence[str],
        *,
        called_by: int | None,
        budget: Budget | None = None,
        isolated: bool = False,
    ) -> list[Agent]:
        """Copies of the agent as it was at `cut`. Raises ToolRefused past a limit."""
        self.refuse(agent, len(tasks))
        state = self._recorder.state
        copies = []
        for number, task in enumerate(tasks):
            name = state.next_agent(number)
            text = f"{copy_text(number + 1, len(tasks), task, isolated=isolated)}\n{self._status(name, agent, cut)}"
            copies.append(
                Copy(
                    agent=name,
                    segment=state.next_segment + number,
                    tokens=tuple(self.told_at(cut, text)),
                    task=task,
                    place=name if isolated else agent.place,
                )
            )
        self._recorder.commit(
            Forked(agent=agent.id, segment=cut.id, copies=tuple(copies), called_by=called_by, budget=budget)
        )
        return [state.agents[copy.agent] for copy in copies]

    def told_at(self, cut: Segment, text: str) -> list[int]:
        """The tokens that tell a copy made at `cut` its `text`."""
        # Every call of the turn needs an answer, and the last one's is what the copy is told.
        calls = len(self._chat.parse(cut).calls) if cut.origin is Origin.SAMPLED else 0
        return self._chat.extend(cut, [*[NOT_DONE] * (calls - 1), text])

    # -- waiting --------------------------------------------------------------------------------------------

    def child(self, agent: Agent, name: str) -> Agent:
        """The child of that name. Raises ToolRefused."""
        return self.named(agent, [name])[0]

    def started(self, copies: Sequence[Agent]) -> Reply:
        """What a parent is told that does not wait."""
        return Reply(text=started_text(copy.id for copy in copies))

    def named(self, agent: Agent, names: Sequence[str]) -> list[Agent]:
        """The children of those names; without names, all whose results were not told. Raises ToolRefused."""
        children = {child.id: child for child in self.children(agent)}
        unknown = [name for name in names if name not in children]
        if unknown:
            raise ToolRefused(f"{', '.join(unknown)}: no agent that you started: {self._names(children.values())}")
        return [children[n] for n in names] or [c for c in children.values() if c.id not in agent.delivered]

    async def results(
        self,
        awaited: Sequence[Agent],
        until: str,
        timeout_s: float | None,
        mail: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply:
        """Wait for all of them or any, at most so long, or until `mail` returns; tell the results that are there."""
        waits = [] if mail is None else [mail]
        if until == "any":
            waits += [partial(self._ended_one, child) for child in awaited]
        elif until == "all":
            waits.append(partial(self._ended_all, awaited))
        with anyio.move_on_after(timeout_s):
            if awaited or until == "mail":
                await _first(waits)
        there = [child for child in awaited if child.outcome is not None]
        lines = [result_line(child) for child in there]
        if len(there) < len(awaited):
            lines.append(f"still at work: {self._names(child for child in awaited if child.outcome is None)}")
        nothing = "there is nobody to wait for" if until != "mail" else "that is all"
        return Reply(text="\n".join(lines) or nothing, told=tuple(child.id for child in there))

    async def _ended_one(self, child: Agent) -> None:
        await self.ended(child.id)

    async def _ended_all(self, children: Sequence[Agent]) -> None:
        for child in children:
            await self.ended(child.id)

    def news(self, agent: Agent, told: set[str]) -> list[Agent]:
        """Children that ended, whose results neither were told nor are in `told`."""
        return [
            child
            for child in self.children(agent)
            if child.outcome is not None
            and child.id not in agent.delivered
            and child.id not in told
            # Those that answer or review report to the call that made them.
            and not (child.answers or child.reviews)
        ]

    # -- heads that move ------------------------------------------------------------------------------------

    def rewind(self, agent: Agent, to: str, report: str) -> None:
        """Move the agent back to checkpoint `to`. Raises ToolRefused."""
        target = self._checkpoint(agent, to)
        children = self.children(agent)
        results = [
            c for c in children if c.outcome is not None and agent.delivered.get(c.id, target.id + 1) > target.id
        ]
        working = [child for child in children if child.outcome is None]
        text = rewind_text(agent, target.turn, report, self._deeds_since(agent, target), results, working)
        tokens = self._chat.extend(target, [f"{text}\n{self._status(agent.id, agent, target)}"])
        self._recorder.commit(
            Rewound(
                agent=agent.id,
                to=target.id,
                segment=self._recorder.state.next_segment,
                tokens=tuple(tokens),
                told=tuple(child.id for child in results),
            )
        )

    def succeed(self, agent: Agent, begin: Callable[[str], list[int]]) -> None:
        """Let the agent go on in a fresh context, made by `begin` from its first message."""
        layout = self._recorder.layout
        paths = [layout.relative(layout.history(name)) for name in [agent.id, *self._ancestors(agent)]]
        working = [child for child in self.children(agent) if child.outcome is None]
        text = succession_text(agent, paths[0], paths[1:], working, layout.relative(layout.notes))
        tokens = begin(f"{text}\n{self._status(agent.id, agent, None)}")
        segment = self._recorder.state.next_segment
        self._recorder.commit(Succeeded(agent=agent.id, segment=segment, tokens=tuple(tokens)))

    # -- the rest -------------------------------------------------------------------------------------------

    def _checkpoint(self, agent: Agent, name: str) -> Segment:
        turn = int(name[1:]) if name[:1] == "t" and name[1:].isdecimal() and len(name) < 10 else -1
        found = agent.head.checkpoint(turn)
        if found is None or found is agent.head:
            last = agent.head.turn - 1
            raise ToolRefused(f"there is no checkpoint {name!r} behind you: you have t0 to t{max(last, 0)}")
        return found

    def _deeds_since(self, agent: Agent, target: Segment) -> list[Deed]:
        """What was done on the agent's path after `target`: by it, and by its ancestors before it was born."""
        deeds = [deed for deed in agent.deeds if deed.segment > target.id]
        at = agent
        while at.parent is not None and at.base.parent is not None and at.base.parent.id > target.id:
            born, at = at.base.parent.id, self._recorder.state.agents[at.parent]
            deeds = [deed for deed in at.deeds if target.id < deed.segment < born] + deeds
        return deeds

    def _ancestors(self, agent: Agent) -> list[str]:
        names = []
        while agent.parent is not None:
            names.append(agent.parent)
            agent = self._recorder.state.agents[agent.parent]
        return names

    @staticmethod
    def _names(agents: Iterable[Agent]) -> str:
        return ", ".join(agent.id for agent in agents) or "you started none"


async def _first(waits: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run all of them until one is done."""
    if len(waits) == 1:
        await waits[0]()
        return
    async with anyio.create_task_group() as group:

        async def one(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            group.cancel_scope.cancel("one is enough")

        for wait in waits:
            group.start_soon(one, wait)
