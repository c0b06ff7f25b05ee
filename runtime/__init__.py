"""Host agents on an engine: the top floor, and what people import.

    async with SGLang.local("seedling") as engine:
        async with Swarm(engine, directory="work", budget=Budget(sampled_tokens=200_000)) as swarm:
            lead = await swarm.start("What is the sum of oats in ledgers?")
            print((await lead.result()).text)

The names are imported when they are first used: the command line answers `--help` without loading an HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.host import Outcome, Reply, ToolRefused
    from agents.tools import TOOLS, Tool
    from runtime.budget import Budget
    from runtime.engine.base import Capacity, Engine, EngineError, EngineRefused, EngineUnavailable
    from runtime.engine.sglang import SGLang
    from runtime.handle import AgentHandle, Result
    from runtime.records import Settings
    from runtime.stats import Stats
    from runtime.swarm import Swarm

__all__ = [
    "TOOLS",
    "AgentHandle",
    "Budget",
    "Capacity",
    "Engine",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "Outcome",
    "Reply",
    "Result",
    "SGLang",
    "Settings",
    "Stats",
    "Swarm",
    "Tool",
    "ToolRefused",
]

_HOMES = {
    "agents.host": ("Outcome", "Reply", "ToolRefused"),
    "agents.tools": ("TOOLS", "Tool"),
    "runtime.budget": ("Budget",),
    "runtime.engine.base": ("Capacity", "Engine", "EngineError", "EngineRefused", "EngineUnavailable"),
    "runtime.engine.sglang": ("SGLang",),
    "runtime.records": ("Settings",),
    "runtime.stats": ("Stats",),
    "runtime.handle": ("AgentHandle", "Result"),
    "runtime.swarm": ("Swarm",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
