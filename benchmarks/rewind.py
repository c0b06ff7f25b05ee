"""A survey with a long detour, with and without going back from it, on the real server.

    python -m benchmarks.rewind [--ledgers 8] [--reports 6] [--runs 3]

Which figure matters is said in one of several long reports, which the agent reads first. Then it adds that figure up
over the ledgers, one copy of itself for each: either as it is, with the reports in every copy's context, or after a
rewind to where it began, with the answer in its report. What the agents say is forced by a grammar
(tests/e2e/forced.py), so both ways make the same decisions and only tokens differ; the server computes and caches for
real. Prints one JSON object; medians over runs.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from functools import partial
from pathlib import Path
from random import Random

from agents.chat import Chat
from agents.host import Agent
from benchmarks._ways import KEYS, Mark, compare, measured, noise, write_ledgers
from runtime import SGLang, Swarm
from runtime.engine.server import ServerOptions
from tests.support import call


def write(directory: Path, random: Random, *, ledgers: int, reports: int) -> tuple[str, Mark]:
    """The files of one run: ledgers, and reports of which one names the key."""
    (directory / "reports").mkdir()
    key, told = random.choice(KEYS), random.randrange(reports)
    for number in range(reports):
        lines = [noise(random) for _ in range(24)]
        if number == told:
            lines[random.randrange(len(lines))] = f"the key is {key}"
        (directory / "reports" / f"r{number}.txt").write_text("\n".join(lines) + "\n")
    total = sum(figures[key] for figures in write_ledgers(directory, ledgers, random).values())
    return "Add up over the ledgers what the reports say matters.", lambda said: int(said == str(total))


def teacher(text: str, *, rewinds: bool) -> str:
    """What to do next, from what the context says."""
    key = re.search(r"the key is (\w+)", text)
    if "You are copy" in text:
        task = re.findall(r"You are copy \d+ of \d+\. Your task: (\S+)", text)[-1]
        own = text.rpartition("You are copy")[2]
        figure = re.search(rf"^{key[1]}: (\d+)$", own, re.MULTILINE) if key else None
        return call("finish", result=figure[1]) if figure else call("read_file", path=task)
    if re.search(r"^a\d+: (\d+)$", text, re.MULTILINE):
        sums = re.findall(r"<tool_response>\n(\d+)\n", text)
        return call("finish", result=sums[-1]) if sums else call("calc", expression="sum(results)")
    reports = sorted(set(re.findall(r"^reports/\S+$", text, re.MULTILINE)))
    ledgers = sorted(set(re.findall(r"^ledgers/\S+$", text, re.MULTILINE)))
    if not ledgers:
        return call("list_files", path=".")
    if "You are back at t1" in text:
        return call("fork", tasks=ledgers)
    unread = [path for path in reports if json.dumps({"path": path}) not in text]
    if unread:
        return call("read_file", path=unread[0])
    assert key is not None
    return call("rewind", to="t1", report=f"the key is {key[1]}") if rewinds else call("fork", tasks=ledgers)


def cost(swarm: Swarm, lead: Agent) -> dict[str, float]:
    """How long contexts became."""
    copies = [agent.head.length for agent in swarm.state.agents.values() if agent.copy]
    return {"final_context_tokens": lead.head.length, "copy_context_tokens": statistics.median(copies)}


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Both ways, one after the other, several times."""
    ways = {name: partial(teacher, rewinds=name == "with") for name in ("without", "with")}
    files = partial(write, ledgers=options.ledgers, reports=options.reports)
    async with SGLang.local(str(options.model), ServerOptions(pool_tokens=32_768)) as engine:
        chat = Chat.load((await engine.capacity()).model)
        found = await compare(engine, chat, ways, options.runs, files, cost)
    return {"benchmark": "rewind", "runs": options.runs, "ledgers": options.ledgers} | found


if __name__ == "__main__":
    measured(__doc__, measure, ledgers=8, reports=6, runs=3)
