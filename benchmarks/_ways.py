"""The same work done in several ways on the real server, with forced words: what differs is knowledge and tokens.

Owns the files that such benchmarks are played on, and the loop: every way, several times, each run on files and words
of its own, so that nothing is cached from another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random

import anyio

from agents.chat import Chat
from agents.host import Agent
from runtime import SGLang, Swarm
from tests.e2e.forced import Forced
from tests.runtime.engine.random_model import write_random_model

KEYS = ("oats", "rye", "hay", "malt")
_WORDS = ("the", "cart", "was", "late", "and", "nobody", "had", "seen", "it", "since", "rain", "began", "by", "gate")

Teacher = Callable[[str], str]
Mark = Callable[[str], int]  # how much of a result is right
Cost = Callable[[Swarm, Agent], dict[str, float]]
Measure = Callable[[argparse.Namespace], Awaitable[dict[str, object]]]


def noise(random: Random) -> str:
    """A line that says nothing."""
    return " ".join(random.choices(_WORDS, k=12))


def write_ledgers(directory: Path, ledgers: int, random: Random) -> dict[str, dict[str, int]]:
    """Ledgers, each with a figure for every key; returns the figures by path."""
    (directory / "ledgers").mkdir()
    written = {}
    for number in range(ledgers):
        path = f"ledgers/l{number}.txt"
        written[path] = {name: random.randrange(10, 1000) for name in KEYS}
        (directory / path).write_text("".join(f"{name}: {figure}\n" for name, figure in written[path].items()))
    return written


async def compare(
    engine: SGLang,
    chat: Chat,
    ways: Mapping[str, Teacher],
    runs: int,
    write: Callable[[Path, Random], tuple[str, Mark]],
    cost: Cost,
) -> dict[str, dict[str, float]]:
    """For each way what was right in all runs, and the medians of what it cost, of `seconds` and of the token bill.

    `write` makes the files of one run; it returns the task and the marker of its result.
    """
    right = dict.fromkeys(ways, 0)
    costs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for seed in range(runs):
        for number, (way, teacher) in enumerate(ways.items()):
            with tempfile.TemporaryDirectory() as place:
                task, mark = write(Path(place), Random(100 * seed + number))
                began = time.perf_counter()
                async with Swarm(Forced(engine, chat, teacher), place, chat=chat) as swarm:
                    lead = await swarm.start(task)
                    result = await lead.result()
                seconds = time.perf_counter() - began
            right[way] += mark(result.text)
            bill = swarm.statistics()
            costs[way].append(
                {
                    "computed_tokens": bill.computed_tokens,
                    "sampled_tokens": bill.sampled_tokens,
                    "prompt_tokens": bill.prompt_tokens,
                    "recompute_ratio": bill.recompute_ratio,
                    "seconds": seconds,
                }
                | cost(swarm, lead.state)
            )
    return {
        way: {"right": right[way]}
        | {name: round(statistics.median(one[name] for one in costs[way]), 3) for name in costs[way][0]}
        for way in ways
    }


def measured(said: str | None, measure: Measure, **counts: int) -> None:
    """The command line of such a benchmark: an option for the model and one for each count; prints what is measured."""
    parser = argparse.ArgumentParser(description=said)
    parser.add_argument("--model", help="a directory or name; without it, random weights of the seedling's shape")
    for name, default in counts.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        options.model = options.model or write_random_model(Path(directory) / "random")
        print(json.dumps(anyio.run(measure, options)))
