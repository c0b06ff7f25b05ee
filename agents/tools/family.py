"""Tools on agents that one has created: `wait`, `cancel`, `merge`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool

__all__ = ["Cancel", "Merge", "Wait"]


class Wait(Tool, frozen=True, kw_only=True):
    """Wait for agents you started, all of them or any one, and get the results that are there. Without names: for all
    whose results you have not had. Mail ends every wait; with until="mail" you wait for nothing else."""

    name: ClassVar[str] = "wait"
    repeatable: ClassVar[bool] = True
    agents: tuple[str, ...] = ()
    until: Literal["all", "any", "mail"] = "all"
    timeout_s: Annotated[float, Meta(gt=0)] | None = None

    async def run(self, agent: Agent, host: Host) -> Reply:
        return await host.wait_for(agent, self.agents, self.until, self.timeout_s)


class Cancel(Tool, frozen=True, kw_only=True):
    """End an agent you started, and all that it started, at once."""

    name: ClassVar[str] = "cancel"
    repeatable: ClassVar[bool] = True  # what has ended stays ended
    agent: str

    async def run(self, agent: Agent, host: Host) -> Reply:
        return await host.cancel(agent, self.agent)


class Merge(Tool, frozen=True, kw_only=True):
    """Take over what an isolated copy changed in its files. Conflicts are reported with both sides; nothing of yours is
    overwritten."""

    name: ClassVar[str] = "merge"
    repeatable: ClassVar[bool] = True  # a second time there is nothing left to apply
    agent: str

    async def run(self, agent: Agent, host: Host) -> Reply:
        return await host.merge(agent, self.agent)
