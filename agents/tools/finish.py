"""The `finish` tool: how an agent ends, with its result."""

from __future__ import annotations

from typing import ClassVar

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool

__all__ = ["Finish"]


class Finish(Tool, frozen=True, kw_only=True):
    """End with your result: the answer to your task, whole, for whoever gave it to you."""

    name: ClassVar[str] = "finish"
    alone: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True
    result: str

    async def run(self, agent: Agent, host: Host) -> Reply:
        return await host.finish(agent, self.result)
