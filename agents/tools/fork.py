"""The `fork` tool: an agent turns itself into copies that share everything it knows so far."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from agents.host import Agent, Host, Reply, ToolRefused
from agents.tools.base import Tool

__all__ = ["Fork", "Text", "of_lines"]

LINE = "{line}"

Text = Annotated[str, Meta(min_length=1)]


class Fork(Tool, frozen=True, kw_only=True):
    """Copy yourself once per task. Each copy knows all you know, does its one task, and finishes with a result; you get
    the results. Make tasks independent of one another. With lines=true there is one copy for each line of your last
    result, and {line} in the only task stands for it: no list needs to be written out. With `at` the copies start from
    an earlier checkpoint and know only what you knew then; with wait=false you go on, and are told of each result when
    it is there; with isolated=true each copy has its own copy of the files, and merge(agent) takes its changes over."""

    name: ClassVar[str] = "fork"
    alone: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True  # the host recognises a turn that has forked already
    tasks: Annotated[list[Text], Meta(min_length=1)]
    lines: bool = False
    at: Annotated[str, Meta(description="a checkpoint such as t5")] | None = None
    wait: bool = True
    isolated: bool = False
    tokens: Annotated[int, Meta(description="the most that each copy may sample", ge=1)] | None = None

    async def run(self, agent: Agent, host: Host) -> Reply:
        tasks = of_lines(self.tasks, agent.last_result) if self.lines else self.tasks
        return await host.fork(agent, tasks, at=self.at, wait=self.wait, isolated=self.isolated, tokens=self.tokens)


def of_lines(tasks: list[str], result: str) -> list[str]:
    """The only task, once for each line of `result`. Raises ToolRefused."""
    lines = [line for line in result.splitlines() if line.strip()]
    if len(tasks) != 1 or LINE not in tasks[0]:
        raise ToolRefused(f"with lines=true give one task, and write {LINE} in it where the line goes")
    if not lines:
        raise ToolRefused("your last result has no lines")
    return [tasks[0].replace(LINE, line) for line in lines]
