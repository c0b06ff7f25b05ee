"""The `send` tool: agents write to each other, and to people."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool

__all__ = ["Send"]

Name = Annotated[str, Meta(min_length=1)]


class Send(Tool, frozen=True, kw_only=True):
    """Write to an agent (a3), to several, to all, or to human. It is read at the start of their next turn; what they
    answer reaches you the same way, and wait(until="mail") waits for it. For anything long, name a file."""

    name: ClassVar[str] = "send"
    repeatable: ClassVar[bool] = True  # a letter has an id, and a mailbox takes each id once
    to: Name | Annotated[list[Name], Meta(min_length=1)]
    subject: str
    body: str
    in_reply_to: Annotated[str, Meta(description="the id of a letter that this answers")] = ""

    def summary(self) -> str:
        names = [self.to] if isinstance(self.to, str) else self.to
        return f"send to {', '.join(names)[:60]}"

    async def run(self, agent: Agent, host: Host) -> Reply:
        names = [self.to] if isinstance(self.to, str) else self.to
        return await host.send(agent, names, self.subject, self.body, in_reply_to=self.in_reply_to)
