"""Ten tasks that need a fact from a parent's long context, five ways, on the real server.

    python -m benchmarks.onboarding [--tasks 10] [--parent-tokens 4096] [--runs 3]

The parent's first message holds some four thousand tokens of talk and, somewhere in it, which figure of the ledgers
counts. Each task is one ledger. What the agents say is forced by a grammar (tests/e2e/forced.py), from what their
contexts hold and nothing else: an agent that was never told which figure counts takes the first one. So all ways decide
alike, only knowledge and tokens differ; the server computes and caches for real. Prints one JSON object; medians over
runs; `unique` is the least that could have been computed (runtime/stats.py).
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import anyio

from agents.chat import Chat
from runtime import SGLang, Swarm
from runtime.engine.server import ServerOptions
from tests.e2e.forced import Forced
from tests.runtime.engine.random_model import write_random_model
from tests.support import answer, call

KEYS = ("oats", "rye", "hay", "malt")
WORDS = ("the", "cart", "was", "late", "and", "nobody", "had", "seen", "it", "since", "rain", "began", "by", "gate")
BRIEF = "Read the ledger of your task. Add nothing up. Finish with the figure that counts."
WAYS = ("fresh", "ten_interviews", "one_interview", "forks", "alone")


def write(directory: Path, tasks: int, random: Random) -> tuple[str, dict[str, int]]:
    """The ledgers of one run; returns the key, and the right figure of each."""
    (directory / "ledgers").mkdir()
    key = random.choice(KEYS[1:])
    right = {}
    for number in range(tasks):
        figures = {name: random.randrange(10, 1000) for name in KEYS}
        path = f"ledgers/l{number}.txt"
        (directory / path).write_text("".join(f"{name}: {figure}\n" for name, figure in figures.items()))
        right[path] = figures[key]
    return key, right


def talk(key: str, tokens: int, count: Callable[[str], int], random: Random) -> str:
    """A long first message that names the key once."""
    lines = ["Find the figure that counts in each ledger."]
    while count("\n".join(lines)) < tokens:
        lines.append(" ".join(random.choices(WORDS, k=12)))
    lines.insert(random.randrange(1, len(lines)), f"what counts is {key}")
    return "\n".join(lines)


def teacher(text: str, *, way: str, tasks: list[str]) -> str:
    """What to do next, from what the context says."""
    last = text.rpartition("<|im_start|>user\n")[2]
    told = re.findall(r"what counts is (\w+)", text)
    key = told[-1] if told else KEYS[0]
    if "You are a copy that answers" in last:
        return call("finish", result=f"what counts is {key}")
    own = re.findall(r"(?:You are copy \d+ of \d+\. |Begun\. )Your task: (\S+)|Your task:\n(\S+)", text)
    if "You are new" in text and len(re.findall("You are copy|Begun", text)) == 0 and way != "fresh":
        return call("begin", understanding=key) if told else call("ask", questions=["Which figure counts?"])
    if own:
        return read(text, "".join(own[-1]), key)
    if way == "alone":
        done = re.findall(r'"path": "(\S+)"', text)
        if len(done) == len(tasks):
            found = dict(zip(done, figures(text, key), strict=True))
            return call("finish", result=json.dumps(found))
        return call("read_file", path=tasks[len(done)])
    found = dict(re.findall(r"(ledgers/\S+) is (\d+)", text))
    if len(found) == len(tasks):
        return call("finish", result=json.dumps({path: int(figure) for path, figure in found.items()}))
    match way:
        case "fresh":
            return call("spawn", tasks=tasks, brief=BRIEF, interview=False)
        case "one_interview":
            return call("spawn", tasks=tasks, brief=BRIEF)
        case "forks":
            return call("fork", tasks=tasks)
        case _:
            started = text.count('"name": "spawn"')
            return (
                call("spawn", tasks=[tasks[started]], brief=BRIEF, wait=False) if started < len(tasks) else call("wait")
            )


def figures(text: str, key: str) -> list[int]:
    """The figures for `key` of all files that were read, in order."""
    return [int(figure) for figure in re.findall(rf"^{key}: (\d+)$", text, re.MULTILINE)]


def read(text: str, path: str, key: str) -> str:
    """Read the one file, then finish with its figure."""
    if f'"path": "{path}"' not in text:
        return call("read_file", path=path)
    return call("finish", result=f"{path} is {figures(answer(text), key)[0]}")


async def run(
    engine: SGLang, chat: Chat, directory: Path, way: str, first: str, tasks: list[str]
) -> tuple[str, dict[str, float]]:
    """One swarm; its answer and what it cost."""
    forced = Forced(engine, chat, partial(teacher, way=way, tasks=tasks))
    began = time.perf_counter()
    async with Swarm(forced, directory, chat=chat) as swarm:
        lead = await swarm.start(first)
        start = lead.state.head.length
        result = await lead.result()
    bill = swarm.statistics()
    return result.text, {
        "computed_tokens": bill.computed_tokens,
        "sampled_tokens": bill.sampled_tokens,
        "unique_prompt_tokens": bill.unique_prompt_tokens,
        "recompute_ratio": bill.recompute_ratio,
        "parent_grew_tokens": lead.state.head.length - start,
        "seconds": time.perf_counter() - began,
    }


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """All ways, one after the other, several times; each run on files and words of its own."""
    costs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    right = dict.fromkeys(WAYS, 0)
    async with SGLang.local(str(options.model), ServerOptions(pool_tokens=131_072)) as engine:
        chat = Chat.load((await engine.capacity()).model)
        for seed in range(options.runs):
            for number, way in enumerate(WAYS):
                random = Random(100 * seed + number)
                with tempfile.TemporaryDirectory() as place:
                    key, truth = write(Path(place), options.tasks, random)
                    first = talk(key, options.parent_tokens, lambda text: len(chat.tokenizer.encode(text)), random)
                    said, cost = await run(engine, chat, Path(place), way, first, list(truth))
                found = json.loads(said)
                right[way] += sum(found.get(path) == figure for path, figure in truth.items())
                costs[way].append(cost)
    out: dict[str, object] = {"benchmark": "onboarding", "tasks": options.tasks, "runs": options.runs}
    for way in WAYS:
        medians = {name: round(statistics.median(cost[name] for cost in costs[way]), 3) for name in costs[way][0]}
        out[way] = {"right": f"{right[way]}/{options.tasks * options.runs}"} | medians
    return out


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a directory or name; without it, random weights of the seedling's shape")
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--parent-tokens", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        options.model = options.model or write_random_model(Path(directory) / "random")
        print(json.dumps(anyio.run(measure, options)))


if __name__ == "__main__":
    main()
