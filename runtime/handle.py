"""An agent of a swarm, from Python: what people hold in their hands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agents.host import Agent, Outcome
from runtime.budget import Budget

if TYPE_CHECKING:
    from runtime.swarm import Swarm

__all__ = ["AgentHandle", "Result"]


class Result:
    """How an agent ended: `outcome`, and its `text`."""

    __slots__ = ("outcome", "text")

    def __init__(self, outcome: Outcome, text: str) -> None:
        self.outcome = outcome
        self.text = text

    def __repr__(self) -> str:
        return f"Result({self.outcome}, {self.text!r})"


class AgentHandle:
    """An agent, at any moment of its life. Methods raise ToolRefused, with the reason, past a limit."""

    __slots__ = ("_swarm", "id")

    def __init__(self, swarm: Swarm, id: str) -> None:
        self._swarm = swarm
        self.id = id

    @property
    def state(self) -> Agent:
        """What is known of it now. Read only."""
        return self._swarm.state.agents[self.id]

    async def result(self) -> Result:
        """Wait until it ends. Cancelling the wait leaves the agent alone."""
        return await self._swarm.wait(self.id)

    async def fork(
        self,
        tasks: Sequence[str],
        *,
        at: str | None = None,
        isolated: bool = False,
        budget: Budget | None = None,
    ) -> list[AgentHandle]:
        """Copies of it as it is now, or was at checkpoint `at`, one for each task; `budget` is each copy's, and
        `isolated` copies have their own copy of the files.

        If it is generating, that is aborted at the engine, what was sampled so far is kept, the copies branch off
        there, and it goes on with the rest of its turn. It is not told of the copies.
        """
        return await self._swarm.branch(self.id, tasks, at=at, isolated=isolated, budget=budget)

    async def spawn(
        self,
        tasks: Sequence[str],
        *,
        brief: str = "",
        interview: bool = True,
        questions: int = 5,
        budget: Budget | None = None,
    ) -> list[AgentHandle]:
        """Fresh agents on its behalf: one newcomer that asks copies of it at most `questions` times, begins, and
        becomes one copy of itself for each task, whose results are its result; or, without `interview`, one for each
        task, with the brief alone. `budget` is each newcomer's. It is not told of them.
        """
        rounds = questions if interview else None
        return await self._swarm.spawn_for(self.id, tasks, brief=brief, questions=rounds, budget=budget)

    async def rewind(self, to: str, report: str) -> None:
        """Move it back to checkpoint `to`. What it is doing stops; a call under way may or may not have had effects."""
        await self._swarm.move_back(self.id, to, report)

    async def introduce(self, name: str, description: str = "") -> None:
        """Give it a name, and a line on what it is, for people and other agents to read."""
        await self._swarm.introduce(self.id, name, description)

    def pause(self) -> None:
        """Let it and all that it started take no new turns; a turn under way ends. Waiting goes on, and time counts."""
        self._swarm.pause(self.id, paused=True)

    def unpause(self) -> None:
        """Let them go on."""
        self._swarm.pause(self.id, paused=False)

    async def cancel(self) -> None:
        """End it, and all that it started: requests are aborted at the engine, and its cache is let go."""
        await self._swarm.stop(self.id)

    def __repr__(self) -> str:
        return f"AgentHandle({self.id}, {self.state.outcome or 'alive'})"
