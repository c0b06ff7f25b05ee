"""Host agents on an engine: the top floor, and what people import.

async with SGLang.local("seedling") as engine:
    async with Swarm(engine, directory="work", budget=Budget(sampled_tokens=200_000)) as swarm:
        lead = await swarm.start("What is the sum of oats in ledgers?")
        print((await lead.result()).text)
"""

from agents.host import Outcome, Reply, ToolRefused
from agents.tools import TOOLS, Tool
from runtime.budget import Budget
from runtime.engine.base import Capacity, Engine, EngineError, EngineRefused, EngineUnavailable
from runtime.engine.sglang import SGLang
from runtime.records import Settings
from runtime.stats import Stats
from runtime.swarm import AgentHandle, Result, Swarm

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
