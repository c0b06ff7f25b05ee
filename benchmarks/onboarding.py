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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from agents.chat import Chat
from agents.host import Agent
from benchmarks._ways import KEYS, Mark, compare, measured, noise, write_ledgers
from runtime import SGLang, Swarm
from runtime.engine.server import ServerOptions
from tests.support import answer, call

BRIEF = "Read the ledger of your task. Add nothing up. Finish with the figure that counts."
WAYS = ("fresh", "ten_interviews", "one_interview", "forks", "alone")


def write(directory: Path, random: Random, *, tasks: int, tokens: int, count: Callable[[str], int]) -> tuple[str, Mark]:
    """The ledgers of one run, and a first message of `tokens` tokens that names the key once."""
    key = random.choice(KEYS[1:])
    ledgers = write_ledgers(directory, tasks, random)
    lines = ["Find the figure that counts in each ledger."]
    while count("\n".join(lines)) < tokens:
        lines.append(noise(random))
    lines.insert(random.randrange(1, len(lines)), f"what counts is {key}")

    def mark(said: str) -> int:
        found = json.loads(said)
        return sum(found.get(path) == figures[key] for path, figures in ledgers.items())

    return "\n".join(lines), mark


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


def cost(swarm: Swarm, lead: Agent) -> dict[str, float]:
    """By how much the parent's context grew."""
    return {"parent_grew_tokens": lead.head.length - lead.base.length}


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """All ways, one after the other, several times."""
    tasks = [f"ledgers/l{number}.txt" for number in range(options.tasks)]
    ways = {way: partial(teacher, way=way, tasks=tasks) for way in WAYS}
    async with SGLang.local(str(options.model), ServerOptions(pool_tokens=131_072)) as engine:
        chat = Chat.load((await engine.capacity()).model)
        files = partial(
            write,
            tasks=options.tasks,
            tokens=options.parent_tokens,
            count=lambda text: len(chat.tokenizer.encode(text)),
        )
        found = await compare(engine, chat, ways, options.runs, files, cost)
    return {"benchmark": "onboarding", "tasks": options.tasks, "runs": options.runs} | found


if __name__ == "__main__":
    measured(__doc__, measure, tasks=10, parent_tokens=4096, runs=3)
