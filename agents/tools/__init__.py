"""What the model can call. A tool is one Struct; the set that a run offers is a mapping from names to them."""

from agents.tools.base import Tool, read_call, schema
from agents.tools.calc import Calc
from agents.tools.family import Cancel, Merge, Wait
from agents.tools.files import ListFiles, ReadFile, Search, WriteFile
from agents.tools.finish import Finish
from agents.tools.fork import Fork
from agents.tools.introduce import Introduce
from agents.tools.mail import Send
from agents.tools.onboarding import Ask, Begin, Spawn
from agents.tools.review import Verdict
from agents.tools.rewind import Rewind
from agents.tools.shell import Shell

__all__ = ["TOOLS", "Tool", "read_call", "schema"]

TOOLS: dict[str, type[Tool]] = {
    tool.name: tool
    for tool in (
        *(ListFiles, ReadFile, WriteFile, Search, Shell, Calc),
        *(Fork, Spawn, Ask, Begin, Introduce, Send, Wait, Cancel, Merge, Rewind, Verdict, Finish),
    )
}
