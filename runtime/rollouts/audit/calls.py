"""What a tool call does, as commands.

Owns which arguments are shell or Python, and that a call of a file tool is the command that does the same: reading a
file is `cat`, writing one is `tee` with a body. Does not know what a command means.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from agents.chat import Call
from runtime.rollouts.audit.command import Command
from runtime.rollouts.audit.python_code import read_python
from runtime.rollouts.audit.shell import read_shell

__all__ = ["commands_of"]

_COMMANDS = ("command", "cmd", "commands", "script", "bash")
_CODES = ("code", "python")


def commands_of(call: Call) -> tuple[Command, ...]:
    """What a tool call does."""
    said = call.arguments
    found: list[Command] = []
    for key in _COMMANDS:
        value = said.get(key)
        if isinstance(value, str):
            found += read_shell(value)
        elif isinstance(value, list) and all(isinstance(word, str) for word in value):
            found += read_shell(shlex.join(value))
    for key in _CODES:
        if isinstance(code := said.get(key), str):
            found += read_python(code, read_shell)
    if not found:
        found += _of_tool(call)
    return tuple(found)


def _of_tool(call: Call) -> Iterator[Command]:
    said = {key: value for key, value in call.arguments.items() if isinstance(value, str)}
    path = said.get("path") or said.get("file_path") or ""
    text = said.get("text") or said.get("content") or said.get("new_str")
    if url := said.get("url"):
        yield Command(argv=("curl", url), source=url)
    if query := said.get("query"):
        yield Command(argv=("search", query), source=query)
    if path and text is not None:
        yield Command(argv=("tee", path), body=text, source=path)
    elif path and (pattern := said.get("pattern")):
        yield Command(argv=("grep", pattern, path), source=path)
    elif path:
        yield Command(argv=("ls" if "list" in call.name else "cat", path), source=path)
