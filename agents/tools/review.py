"""The `verdict` tool: how a reviewer ends."""

from __future__ import annotations

from typing import ClassVar, Literal

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool

__all__ = ["Verdict"]


class Verdict(Tool, frozen=True, kw_only=True):
    """For reviewers: end with your judgement of the work you were shown. `comments` say what is wrong, and where."""

    name: ClassVar[str] = "verdict"
    alone: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True
    verdict: Literal["accept", "revise"]
    comments: str = ""

    async def run(self, agent: Agent, host: Host) -> Reply:
        await host.judge(agent, accepted=self.verdict == "accept", comments=self.comments)
        return Reply(text="")
