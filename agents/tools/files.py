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

    def summary(self) -> str:
        return f"list_files {self.path}"

    async def run(self, agent: Agent, host: Host) -> Reply:
        listing = await to_thread.run_sync(partial(host.files(agent).list, self.path))
        return Reply(text="\n".join(listing.paths), note=listing.note or ("" if listing.paths else "(no files)"))


class ReadFile(Tool, frozen=True, kw_only=True):
    """Read a text file."""

    name: ClassVar[str] = "read_file"
    repeatable: ClassVar[bool] = True
    path: Path
    offset_lines: Annotated[int, Meta(description="lines to skip", ge=0)] = 0

    def summary(self) -> str:
        return f"read_file {self.path}"

    async def run(self, agent: Agent, host: Host) -> Reply:
        part = await to_thread.run_sync(partial(host.files(agent).read, self.path, offset_lines=self.offset_lines))
        text = part.text.removesuffix("\n")
        return Reply(text=text, note=part.note or ("" if text else "(empty file)"))


class WriteFile(Tool, frozen=True, kw_only=True):
    """Write a text file, replacing what it held."""

    name: ClassVar[str] = "write_file"
    path: Path
    text: str

    def summary(self) -> str:
        return f"write_file {self.path}"

    async def run(self, agent: Agent, host: Host) -> Reply:
        written = await to_thread.run_sync(partial(host.files(agent).write, self.path, self.text))
        done = "created" if written.created else "replaced"
        return Reply(text=f"{done} {written.path} ({written.size_bytes} bytes)", did=f"wrote {written.path}")


class Search(Tool, frozen=True, kw_only=True):
    """Search text files for a regular expression; each match is a line `path:number: text`."""

    name: ClassVar[str] = "search"
    repeatable: ClassVar[bool] = True
    pattern: str
    path: Path = "."

    async def run(self, agent: Agent, host: Host) -> Reply:
        found = await to_thread.run_sync(partial(host.files(agent).search, self.pattern, self.path))
        return Reply(text="\n".join(found.lines), note=found.note or ("" if found.lines else "(no matches)"))
