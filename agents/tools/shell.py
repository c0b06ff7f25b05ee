"""The `shell` tool. What confines the command is `workspace.Sandbox`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from agents.host import Agent, Host, Reply
from agents.told import exit_text
from agents.tools.base import Tool

__all__ = ["Shell"]


class Shell(Tool, frozen=True, kw_only=True):
    """Run a shell command in the working directory: no network, the system read-only, output cut when long."""

    name: ClassVar[str] = "shell"
    command: str
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 60.0

    def summary(self) -> str:
        return f"shell `{self.command[:60]}`"

    async def run(self, agent: Agent, host: Host) -> Reply:
        sandbox = host.sandbox(agent)
        done = await sandbox.run(self.command, timeout_s=self.timeout_s, output_path=host.output_path(agent))
        notes = [f"[stopped after {self.timeout_s:g} s (timeout_s)]"] if done.timed_out else []
        if done.exit_code:
            notes.append(f"[{exit_text(done.exit_code, sandbox.limits)}]")
        if done.truncated and done.output_path is not None:
            notes.append(f"[the whole output: {host.shown_path(done.output_path)}]")
        return Reply(
            text=done.output.rstrip("\n"),
            note="\n".join(notes),
            did=f"ran `{self.command[:200]}`",
        )
