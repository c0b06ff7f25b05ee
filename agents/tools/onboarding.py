"""Onboarding: `spawn` starts fresh agents, `ask` has a copy of one's parent answer, `begin` ends the questions."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool
from agents.tools.fork import Text, of_lines

__all__ = ["Ask", "Begin", "Spawn"]


class Spawn(Tool, frozen=True, kw_only=True):
    """Start fresh agents that know nothing of your context, for work that needs none of it. One newcomer reads the
    brief and all tasks, asks what it must know (a copy of you answers), and then copies itself once per task; you get
    the results. With lines=true each line of your last result is a task, as in fork; with interview=false each task
    gets a newcomer at once, which has only the brief; with wait=false you go on, and are told of the results when they
    are there."""

    name: ClassVar[str] = "spawn"
    alone: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True  # the host recognises a turn that has spawned already
    tasks: Annotated[list[Text], Meta(min_length=1)]
    lines: bool = False
    brief: str = ""
    interview: bool = True
    wait: bool = True
    questions: Annotated[int, Meta(description="rounds of questions it may ask", ge=0, le=100)] = 5
    tokens: Annotated[int, Meta(description="the most that each newcomer and its copies may sample", ge=1)] | None = (
        None
    )

    async def run(self, agent: Agent, host: Host) -> Reply:
        return await host.spawn(
            agent,
            of_lines(self.tasks, agent.last_result) if self.lines else self.tasks,
            brief=self.brief,
            questions=self.questions if self.interview else None,
            wait=self.wait,
            tokens=self.tokens,
        )


class Ask(Tool, frozen=True, kw_only=True):
    """Ask the agent that started you. A copy of it answers, so it is not interrupted and does not remember it."""

    name: ClassVar[str] = "ask"
    alone: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True  # a turn that has asked already only waits for its answer
    onboarding: ClassVar[bool] = True
    questions: Annotated[list[Text], Meta(min_length=1)]

    async def run(self, agent: Agent, host: Host) -> Reply:
        return await host.ask(agent, self.questions)


class Begin(Tool, frozen=True, kw_only=True):
    """You are new and know enough: say how you understand your tasks, and start on them."""

    name: ClassVar[str] = "begin"
    alone: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True
    onboarding: ClassVar[bool] = True
    understanding: str

    async def run(self, agent: Agent, host: Host) -> Reply:
        return await host.begin(agent, self.understanding)
