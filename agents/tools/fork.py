"""The `fork` tool: an agent turns itself into copies that share everything it knows so far."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool

__all__ = ["Fork"]


class Fork(Tool, frozen=True, kw_only=True):
    """Copy yourself once per task. Each copy knows all you know now, does its one task, and finishes with a result;
    you get the results. Make tasks independent of one another."""

    name: ClassVar[str] = "fork"
    alone: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True  # the host recognises a turn that has forked already
    tasks: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]

    async def run(self, agent: Agent, host: Host) -> Reply:
        return Reply(text=await host.fork(agent, self.tasks))
