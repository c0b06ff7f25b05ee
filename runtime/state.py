"""The state of a run: a pure fold over the records of its journal, the same live and after a crash.

Owns agents, segments and accounts. Invariants: `apply` is the only thing that changes them; it starts nothing, waits
for nothing and reads no clock; applying a journal's records in order gives the state that was live when they were
written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from msgspec import structs

from agents.context import Origin, Segment
from agents.host import Agent, Deed, Outcome
from runtime.budget import Account, Budget
from runtime.engine.base import FinishReason
from runtime.records import (
    Begun,
    CallEnded,
    CallStarted,
    Closed,
    Ended,
    Forked,
    Given,
    Judged,
    Named,
    Opened,
    Outage,
    Paused,
    Record,
    Resumed,
    Returned,
    Rewound,
    Sampled,
    Settings,
    Started,
    Succeeded,
    Warmed,
)

__all__ = ["RunState"]


class RunState:
    """Everything a run knows. Read it freely; only the swarm applies records."""

    def __init__(self) -> None:
        self.run = ""
        self.settings = Settings()
        self.agents: dict[str, Agent] = {}
        self.accounts: dict[str, Account] = {}
        self.segments: dict[int, Segment] = {}
        self.account = Account()  # the run's
        self.outcome: Outcome | None = None
        self.result = ""
        self.forks = 0
        self.spawns = 0
        self.rewinds = 0
        self.successions = 0
        self.short_tokens = 0
        self.outage: Outage | None = None  # since when there is trouble with the engine, and what it is now
        self.started_at = 0.0
        self.last_at = 0.0
        self.active_s = 0.0  # wall time that the run was alive: the time between a crash and its resume not counted

    @classmethod
    def replay(cls, records: Iterable[Record]) -> RunState:
        """The state after `records`."""
        state = cls()
        for record in records:
            state.apply(record)
        return state

    @property
    def alive(self) -> int:
        """Agents without an outcome."""
        return self.account.alive

    @property
    def next_segment(self) -> int:
        """The number of the next segment."""
        return len(self.segments) + 1

    def next_agent(self, ahead: int = 0) -> str:
        """The id of the next agent to be made, or of one that follows it."""
        return f"a{len(self.agents) + 1 + ahead}"

    def apply(self, record: Record) -> None:
        """Change the state by what a record says happened."""
        if not isinstance(record, Opened | Resumed):
            self.active_s += max(0.0, record.at - self.last_at)
        self.last_at = max(self.last_at, record.at)
        match record:
            case Opened():
                self.run, self.settings, self.started_at = record.run, record.settings, record.at
                self.account.budget = record.settings.budget
            case Started():
                self._started(record)
            case Forked():
                self._forked(record)
            case Begun():
                self.agents[record.agent].begun = True
            case Sampled():
                self._sampled(record)
            case Warmed():
                agent = self.agents[record.agent]
                agent.prompt_tokens += record.prompt_tokens
                agent.cached_tokens += record.cached_tokens
                self.accounts[agent.id].charge(0, record.prompt_tokens - record.cached_tokens, turns=0)
            case Given():
                agent = self.agents[record.agent]
                agent.letters.extend(record.mail)
                self._told(agent, self._segment(record.segment, agent.head, record.tokens), record.told)
            case Rewound():
                agent = self.agents[record.agent]
                agent.rewinds += 1
                self.rewinds += 1
                self._told(agent, self._segment(record.segment, self.segments[record.to], record.tokens), record.told)
            case Succeeded():
                agent = self.agents[record.agent]
                agent.successions += 1
                self.successions += 1
                self._told(agent, self._segment(record.segment, None, record.tokens), ())
            case CallStarted():
                agent = self.agents[record.agent]
                agent.started[record.index] = agent.activity = record.name
            case CallEnded():
                agent = self.agents[record.agent]
                agent.replies[record.index] = record.reply
                if record.reply.did:
                    agent.deeds.append(Deed(segment=agent.head.id, text=record.reply.did))
            case Judged():
                self.agents[record.agent].accepted = record.accepted
            case Returned():
                self.agents[record.agent].returned[record.segment] = record.reason
            case Paused():
                self.agents[record.agent].paused = record.paused
            case Named():
                agent = self.agents[record.agent]
                agent.name, agent.description = record.name, record.description
            case Ended():
                agent = self.agents[record.agent]
                agent.outcome, agent.result, agent.activity = record.outcome, record.result, ""
                agent.changes = record.changes
                self.accounts[agent.id].lived(-1)
            case Outage():
                since = record.at if self.outage is None else self.outage.at
                self.outage = None if record.over else structs.replace(record, at=since)
            case Resumed():
                self.outage = None
            case Closed():
                self.outage = None
                self.outcome, self.result = record.outcome, record.result
            case _:
                assert_never(record)

    def _segment(self, number: int, parent: Segment | None, tokens: tuple[int, ...]) -> Segment:
        self.segments[number] = segment = Segment(number, parent, Origin.GIVEN, tokens)
        return segment

    def _told(self, agent: Agent, head: Segment, told: tuple[str, ...]) -> None:
        went_on = head.parent is agent.head  # and did not move back, or begin anew
        last = agent.replies[max(agent.replies)] if agent.replies and went_on else None
        agent.last_result = last.text if last is not None and not last.error else ""
        agent.head = head
        agent.delivered.update(dict.fromkeys(told, head.id))
        agent.started, agent.replies, agent.activity, agent.interrupted, agent.cut = {}, {}, "", False, False

    def _born(self, agent: Agent, budget: Budget | None) -> None:
        self.agents[agent.id] = agent
        above = self.account
        if agent.parent is not None:
            self.agents[agent.parent].children.append(agent.id)
            above = self.accounts[agent.parent]
        self.accounts[agent.id] = account = Account(above, budget, agent.depth, self.active_s, agent.id)
        account.lived(1)

    def _started(self, record: Started) -> None:
        base = self._segment(record.segment, None, record.tokens)
        parent = self.agents[record.parent] if record.parent is not None else None
        agent = Agent(
            id=record.agent,
            parent=record.parent,
            task=record.task,
            depth=parent.depth + 1 if parent is not None else 0,
            base=base,
            head=base,
            called_by=record.called_by,
            tasks=record.tasks,
            questions=record.questions,
            begun=not record.tasks,
            reviews=record.reviews,
            place=record.place,
        )
        self._born(agent, record.budget)
        if parent is not None:
            self.spawns += 1
            parent.deeds.append(Deed(segment=parent.head.id, text=f"started {agent.id}"))

    def _forked(self, record: Forked) -> None:
        parent, cut = self.agents[record.agent], self.segments[record.segment]
        for number, copy in enumerate(record.copies, 1):
            base = self._segment(copy.segment, cut, copy.tokens)
            agent = Agent(
                id=copy.agent,
                parent=parent.id,
                task=copy.task,
                depth=parent.depth + 1,
                base=base,
                head=base,
                copy=0 if record.answers else number,
                copies=0 if record.answers else len(record.copies),
                answers=record.answers,
                called_by=record.called_by,
                place=copy.place,
            )
            self._born(agent, record.budget)
        if record.answers:
            parent.questions -= 0 if parent.begun else 1
            return
        self.forks += 1
        names = ", ".join(copy.agent for copy in record.copies)
        parent.deeds.append(Deed(segment=parent.head.id, text=f"started {names}"))

    def _sampled(self, record: Sampled) -> None:
        agent = self.agents[record.agent]
        agent.head = Segment(record.segment, agent.head, Origin.SAMPLED, record.tokens, record.logprobs, record.version)
        self.segments[record.segment] = agent.head
        turns = 0 if agent.interrupted else 1  # what was interrupted goes on in the same turn
        agent.interrupted = record.finish is FinishReason.ABORT
        agent.cut = record.finish is FinishReason.LENGTH
        agent.activity = ""
        agent.turns += turns
        agent.sampled_tokens += len(record.tokens)
        agent.prompt_tokens += record.prompt_tokens
        agent.cached_tokens += record.cached_tokens
        self.short_tokens += record.short_tokens
        self.accounts[agent.id].charge(len(record.tokens), record.prompt_tokens - record.cached_tokens, turns=turns)
