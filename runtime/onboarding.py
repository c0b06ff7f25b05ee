"""Spawning with onboarding: newcomers, the questions they ask, and the moment they begin.

A newcomer has a fresh context. Until it begins it can only ask and begin: whatever it asks is answered by a *host
fork*, a copy of whoever started it, so that one's own context gains nothing but results. Each round of an interview
forks the host of the round before, which remembers it. Once it has begun, a newcomer with several tasks becomes one
copy of itself for each, and ends with what they found.

Owns what spawning, asking and beginning come to, and who answers whom. Invariants: everything is a record before it is
an effect, and a turn that is carried out again after a crash makes nobody twice; an agent is never interrupted by a
question; a newcomer that does not begin ends with an outcome. Starts no task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.context import Segment
from agents.host import Agent, Outcome, Reply, ToolRefused
from agents.told import begun_text, host_text, newcomer_text
from runtime.budget import Budget
from runtime.family import Family
from runtime.recorder import Recorder
from runtime.records import Begun, Copy, Forked, Started

__all__ = ["DALLYING_TURNS", "Onboarding"]

# Turns that a newcomer may take beyond its questions before it has begun: calls that were refused, mostly.
DALLYING_TURNS = 8

Status = Callable[[str, Agent | None, Segment | None], str]


class Onboarding:
    """Of one run. `begin(message)` makes a fresh context's tokens, `status` a status line."""

    def __init__(self, recorder: Recorder, family: Family, begin: Callable[[str], list[int]], status: Status) -> None:
        self._recorder = recorder
        self._family = family
        self._begin = begin
        self._status = status

    def spawn(
        self, agent: Agent, tasks: Sequence[str], *, brief: str, questions: int | None, budget: Budget | None
    ) -> list[Agent]:
        """The newcomers of the agent's present turn, made where they are not there yet. Raises ToolRefused."""
        made = self._family.of_this_turn(agent)
        missing = tasks[len(made) :] if questions is None or not made else []
        if not missing:
            return made
        here = agent.head.id
        return made + self.newcomers(agent, missing, brief=brief, questions=questions, budget=budget, called_by=here)

    def newcomers(
        self,
        agent: Agent,
        tasks: Sequence[str],
        *,
        brief: str,
        questions: int | None,
        budget: Budget | None,
        called_by: int | None,
    ) -> list[Agent]:
        """One newcomer that is onboarded for all tasks, or one for each that is not. Raises ToolRefused."""
        shares = [(task,) for task in tasks] if questions is None else [tuple(tasks)]
        self._family.refuse(agent, len(shares))
        return [self._newcomer(agent, share, brief, questions, budget, called_by) for share in shares]

    def ask(self, agent: Agent, questions: Sequence[str]) -> Agent:
        """The host fork that answers the agent's present turn. Raises ToolRefused."""
        made = self._family.of_this_turn(agent)
        if made:
            return made[0]
        cut = self._cut(agent)
        self._family.refuse(agent, 1)
        state = self._recorder.state
        name = state.next_agent()
        tasks = "; ".join(agent.tasks) or agent.task
        text = f"{host_text(agent.id, tasks, questions)}\n{self._status(name, agent, cut)}"
        host = Copy(
            agent=name,
            segment=state.next_segment,
            tokens=tuple(self._family.told_at(cut, text)),
            task="; ".join(questions),
            place=agent.place,
        )
        self._recorder.commit(
            Forked(agent=agent.id, segment=cut.id, copies=(host,), called_by=agent.head.id, answers=True)
        )
        return state.agents[name]

    def begun(self, agent: Agent, understanding: str) -> None:
        """Let the agent begin. Raises ToolRefused for one that has nothing to begin, or did in an earlier turn."""
        if not agent.tasks:
            raise ToolRefused("begin is for newcomers: you are at work already")
        if not agent.begun:
            self._recorder.commit(Begun(agent=agent.id, understanding=understanding))

    @staticmethod
    def first_words(agent: Agent) -> Reply:
        """What a newcomer with one task goes on with."""
        return Reply(text=begun_text(agent.tasks[0]))

    def dallies(self, agent: Agent) -> bool:
        """Whether a newcomer has had its chances and has not begun."""
        if agent.begun:  # asked before every turn of every agent
            return False
        asked = sum(child.answers for child in self._family.children(agent))
        return agent.turns >= asked + agent.questions + DALLYING_TURNS

    # -- the rest -------------------------------------------------------------------------------------------

    def _newcomer(
        self,
        agent: Agent,
        tasks: tuple[str, ...],
        brief: str,
        questions: int | None,
        budget: Budget | None,
        called_by: int | None,
    ) -> Agent:
        state, layout = self._recorder.state, self._recorder.layout
        name = state.next_agent()
        files = [layout.relative(p) for p in (layout.task, layout.prompt(agent.id), layout.history(agent.id))]
        text = newcomer_text(agent.id, brief, tasks, files, questions=questions is not None)
        self._recorder.commit(
            Started(
                agent=name,
                segment=state.next_segment,
                tokens=tuple(self._begin(f"{text}\n{self._status(name, agent, None)}")),
                task="; ".join(tasks),
                budget=budget,
                parent=agent.id,
                called_by=called_by,
                tasks=tasks if questions is not None else (),
                questions=questions or 0,
                place=agent.place,
            )
        )
        return state.agents[name]

    def _cut(self, agent: Agent) -> Segment:
        """Where the fork that answers `agent` branches off. Raises ToolRefused where nobody could answer."""
        state = self._recorder.state
        if agent.answers:
            raise ToolRefused("ask: you are the one who answers; look it up, or say that you do not know")
        if not agent.begun:
            if agent.questions < 1:
                raise ToolRefused("ask: no more questions: begin(understanding)")
            hosts = [child for child in self._family.children(agent) if child.answers]
            answered = [host.head for host in hosts if host.outcome is Outcome.FINISHED]
            if answered:
                return answered[-1]
            if agent.called_by is not None:
                return state.segments[agent.called_by]
        # A copy knows all that the agent it was copied from knew: who can answer is whoever started that one.
        at = agent
        while at.base.parent is not None and at.parent is not None:
            at = state.agents[at.parent]
        if at.parent is None:
            raise ToolRefused("ask: nobody started you but a person: decide yourself, and say what you assumed")
        return state.agents[at.parent].head
