"""The tasks of the agents.

Owns one cancel scope for every agent that lives. Invariants: an agent that is alive has exactly one task, in the group
it was given; one that has ended gets none. Does not know what agents do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import anyio
from anyio.abc import TaskGroup

from agents.host import Agent

__all__ = ["Lives"]


class Lives:
    """Runs `life` for each agent, in `group`."""

    def __init__(self, group: TaskGroup, life: Callable[[Agent], Awaitable[None]]) -> None:
        self._group = group
        self._life = life
        self._scopes: dict[str, anyio.CancelScope] = {}  # of the agents that have a task
        self._leaving: dict[str, anyio.Event] = {}  # of those whose task somebody waits to see over

    def begin(self, agent: Agent) -> None:
        """See that the agent has a task, unless it has ended."""
        if agent.outcome is None and agent.id not in self._scopes:
            scope = self._scopes[agent.id] = anyio.CancelScope()
            self._group.start_soon(self._live, agent, scope, name=f"agent {agent.id}")

    def cancel(self, agents: Iterable[Agent]) -> None:
        """End their tasks, without waiting for that."""
        for agent in agents:
            if agent.id in self._scopes:
                self._scopes[agent.id].cancel("the agent was cancelled")

    async def halt(self, agent: Agent) -> None:
        """End the agent's task and return when it is over. A later `begin` goes on from the head that it has then."""
        left = self._leaving.setdefault(agent.id, anyio.Event())
        self._scopes[agent.id].cancel("the agent is halted")
        await left.wait()

    async def _live(self, agent: Agent, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await self._life(agent)
            finally:
                del self._scopes[agent.id]
                if left := self._leaving.pop(agent.id, None):
                    left.set()
