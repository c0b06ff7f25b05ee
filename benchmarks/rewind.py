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
import tempfile
import time
from pathlib import Path
from random import Random

import anyio

from agents.chat import Chat
from runtime import SGLang, Swarm
from runtime.engine.server import ServerOptions
from tests.e2e.forced import Forced
from tests.runtime.engine.random_model import write_random_model
from tests.support import call

KEYS = ("oats", "rye", "hay", "malt")
WORDS = ("the", "cart", "was", "late", "and", "nobody", "had", "seen", "it", "since", "rain", "began", "by", "gate")


def write(directory: Path, ledgers: int, reports: int, random: Random) -> int:
    """The files of one run; returns the right answer."""
    (directory / "reports").mkdir()
    (directory / "ledgers").mkdir()
    key = random.choice(KEYS)
    told = random.randrange(reports)
    for number in range(reports):
        lines = [" ".join(random.choices(WORDS, k=12)) for _ in range(24)]
        if number == told:
            lines[random.randrange(len(lines))] = f"the key is {key}"
        (directory / "reports" / f"r{number}.txt").write_text("\n".join(lines) + "\n")
    total = 0
    for number in range(ledgers):
        figures = {name: random.randrange(10, 1000) for name in KEYS}
        total += figures[key]
        text = "".join(f"{name}: {figure}\n" for name, figure in figures.items())
        (directory / "ledgers" / f"l{number}.txt").write_text(text)
    return total


def teacher(text: str, *, rewinds: bool) -> str:
    """What to do next, from what the context says."""
    key = re.search(r"the key is (\w+)", text)
    if "You are copy" in text:
        task = re.findall(r"You are copy \d+ of \d+\. Your task: (\S+)", text)[-1]
        own = text.rpartition("You are copy")[2]
        figure = re.search(rf"^{key[1]}: (\d+)$", own, re.MULTILINE) if key else None
        return call("finish", result=figure[1]) if figure else call("read_file", path=task)
    results = re.findall(r"^a\d+: (\d+)$", text, re.MULTILINE)
    if results:
        sums = re.findall(r"<tool_response>\n(\d+)\n", text)
        return call("finish", result=sums[-1]) if sums else call("calc", expression="+".join(results))
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


async def run(engine: SGLang, chat: Chat, directory: Path, *, rewinds: bool) -> tuple[str, dict[str, float]]:
    """One swarm; its answer and what it cost."""
    forced = Forced(engine, chat, lambda text: teacher(text, rewinds=rewinds))
    began = time.perf_counter()
    async with Swarm(forced, directory, chat=chat) as swarm:
        lead = await swarm.start("Add up over the ledgers what the reports say matters.")
        result = await lead.result()
    copies = [agent for agent in swarm.state.agents.values() if agent.copy]
    bill = swarm.statistics()
    return result.text, {
        "final_context_tokens": lead.state.head.length,
        "copy_context_tokens": statistics.median(copy.head.length for copy in copies),
        "prompt_tokens": bill.prompt_tokens,
        "computed_tokens": bill.computed_tokens,
        "seconds": time.perf_counter() - began,
    }


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Both ways, one after the other, several times."""
    costs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    right = {False: 0, True: 0}
    async with SGLang.local(str(options.model), ServerOptions(pool_tokens=32_768)) as engine:
        chat = Chat.load((await engine.capacity()).model)
        for seed in range(options.runs):
            for rewinds in (False, True):
                with tempfile.TemporaryDirectory() as directory:
                    answer = write(Path(directory), options.ledgers, options.reports, Random(seed * 2 + rewinds))
                    said, cost = await run(engine, chat, Path(directory), rewinds=rewinds)
                right[rewinds] += said == str(answer)
                costs[rewinds].append(cost)
    out: dict[str, object] = {"benchmark": "rewind", "runs": options.runs, "ledgers": options.ledgers}
    for rewinds, name in ((False, "without"), (True, "with")):
        out[f"{name}_right"] = right[rewinds]
        for key in costs[rewinds][0]:
            out[f"{name}_{key}"] = round(statistics.median(cost[key] for cost in costs[rewinds]), 2)
    return out


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a directory or name; without it, random weights of the seedling's shape")
    parser.add_argument("--ledgers", type=int, default=8)
    parser.add_argument("--reports", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        options.model = options.model or write_random_model(Path(directory) / "random")
        print(json.dumps(anyio.run(measure, options)))


if __name__ == "__main__":
    main()
