"""The `rewind` tool: an agent goes back to an earlier point of its own context, and keeps what it found."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool

__all__ = ["Rewind"]


class Rewind(Tool, frozen=True, kw_only=True):
    """Go back to a checkpoint and forget what came after it, but for your report. Use it when a long stretch taught you
    little that you still need: the report is all your past self gets, with a list of what was done meanwhile. Files,
    mail and agents stay as they are."""

    name: ClassVar[str] = "rewind"
    alone: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True  # its one record moves the head: a turn that was rewound is no head any more
    to: Annotated[str, Meta(description="a checkpoint such as t5")]
    report: Annotated[str, Meta(description="what your past self must know")]

    async def run(self, agent: Agent, host: Host) -> Reply:
        await host.rewind(agent, self.to, self.report)
        return Reply(text="")
