"""Tools on the files of the working directory. What confines them is `workspace.FileTree`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

from anyio import to_thread
from msgspec import Meta

from agents.host import Agent, Host, Reply
from agents.tools.base import Tool

__all__ = ["ListFiles", "ReadFile", "Search", "WriteFile"]

Path = Annotated[str, Meta(description="relative to the working directory")]


class ListFiles(Tool, frozen=True, kw_only=True):
    """List the files below a directory, one path a line."""

    name: ClassVar[str] = "list_files"
    repeatable: ClassVar[bool] = True
    path: Path = "."

    async def run(self, agent: Agent, host: Host) -> Reply:
        return Reply(text=await to_thread.run_sync(partial(host.files.list_text, self.path)))


class ReadFile(Tool, frozen=True, kw_only=True):
    """Read a text file."""

    name: ClassVar[str] = "read_file"
    repeatable: ClassVar[bool] = True
    path: Path
    offset: Annotated[int, Meta(description="lines to skip", ge=0)] = 0

    async def run(self, agent: Agent, host: Host) -> Reply:
        return Reply(text=await to_thread.run_sync(partial(host.files.read_text, self.path, self.offset)))


class WriteFile(Tool, frozen=True, kw_only=True):
    """Write a text file, replacing what it held."""

    name: ClassVar[str] = "write_file"
    path: Path
    text: str

    async def run(self, agent: Agent, host: Host) -> Reply:
        said = await to_thread.run_sync(partial(host.files.write_text, self.path, self.text))
        return Reply(text=said, wrote=(self.path,))


class Search(Tool, frozen=True, kw_only=True):
    """Search text files for a regular expression; each match is a line `path:number: text`."""

    name: ClassVar[str] = "search"
    repeatable: ClassVar[bool] = True
    pattern: str
    path: Path = "."

    async def run(self, agent: Agent, host: Host) -> Reply:
        return Reply(text=await to_thread.run_sync(partial(host.files.search_text, self.pattern, self.path)))
