"""The `introduce` tool: names and descriptions of an agent's own making. Nothing in the code depends on them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool

__all__ = ["Introduce"]


class Introduce(Tool, frozen=True, kw_only=True):
    """Give yourself, or an agent that you started, a short name and a description: whoever reads its results or its
    mail, and whoever watches, sees the name beside its id. They change nothing else."""

    name: ClassVar[str] = "introduce"
    repeatable: ClassVar[bool] = True  # what is said twice holds once
    who: Annotated[str, Meta(min_length=1, max_length=24, description="a short name")]
    description: Annotated[str, Meta(max_length=400)] = ""
    agent: Annotated[str, Meta(description="its id; without it, you")] = ""

    async def run(self, agent: Agent, host: Host) -> Reply:
        return await host.introduce(agent, self.agent, self.who, self.description)
