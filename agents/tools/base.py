"""What a tool is, and how a model's call becomes one.

A tool is a msgspec Struct: its fields are the arguments, its docstring is the description, `run` does it. The JSON
schema that the model sees and the check of what the model wrote both come from the fields, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from agents.chat import Call
from agents.host import Agent, Host, Reply, ToolRefused

__all__ = ["Tool", "read_call", "schema"]

# Of what a model wrote, said back to it in an error.
SHOWN_CHARS = 500


class Tool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call that has been read and checked.

    `alone`: must be the only call of its turn. `repeatable`: running it twice does no harm, so a call that a crash
    interrupted is simply run again. `onboarding`: a newcomer may call it before it has begun.
    """

    name: ClassVar[str]
    alone: ClassVar[bool] = False
    repeatable: ClassVar[bool] = False
    onboarding: ClassVar[bool] = False

    def summary(self) -> str:
        """The call in a few words, for people who watch and for reports."""
        return self.name

    async def run(self, agent: Agent, host: Host) -> Reply:
        """Do it. Raises ToolRefused or a workspace FileError, which become an error result."""
        raise NotImplementedError


def schema(tool: type[Tool]) -> dict[str, Any]:
    """The tool as an OpenAI-style function description."""
    _, components = msgspec.json.schema_components([tool])
    parameters = dict(components[tool.__name__])
    parameters.pop("title", None)
    description = " ".join(parameters.pop("description", tool.__doc__ or "").split())
    function = {"name": tool.name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def read_call(call: Call, tools: Mapping[str, type[Any]]) -> Tool:
    """The tool that a model's call names, with its arguments. Raises ToolRefused, saying what to do."""
    if call.problem:
        raise ToolRefused(call.problem)
    tool = tools.get(call.name)
    if tool is None:
        raise ToolRefused(f"there is no tool {call.name[:SHOWN_CHARS]!r}; there are {_names(tools)}")
    try:
        read: Tool = msgspec.convert(call.arguments, tool)
    except (msgspec.ValidationError, RecursionError) as error:
        said = str(error)[:SHOWN_CHARS]
        raise ToolRefused(f"{call.name}: {said}; its arguments are {_signature(tool)}") from error
    return read


def _signature(tool: type[Tool]) -> str:
    fields = msgspec.structs.fields(tool)
    return ", ".join(field.name if field.required else f"{field.name} (optional)" for field in fields)


def _names(tools: Iterable[str]) -> str:
    return ", ".join(sorted(tools))
