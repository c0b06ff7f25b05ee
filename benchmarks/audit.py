"""How fast an audit reads, and what it holds: tokens a second on one core, and memory that does not grow.

    python -m benchmarks.audit [--model seedling] [--rollouts 200] [--words 400]

Writes files of synthetic rollouts in the native format (a root that forks four ways; commands, results of 400
words, one hit in every tenth rollout), then audits them in processes of their own: all detectors and watchers.
Counts every token of every edge once. Prints one JSON object; the peak is that of the process, for the file and for
one four times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agents.chat import Chat
from agents.host import Outcome
from runtime.engine.server import resolve_model
from runtime.rollouts.audit import WATCHERS, PartialInputs, audit
from runtime.rollouts.schema import VERSION, Head, Leaf, Member, Rollout, Term, read_rollouts, write_rollout
from tests.runtime.rollouts.audit.building import Part, begun, edge, said, told
from tests.support import call

COMMANDS = ["ls -la src", "git log -5", "git diff HEAD~1 -- src/core.py", "cd src && pytest -q | tail -3"]


def synthetic(chat: Chat, model: str, number: int, shown_words: int) -> Rollout:
    """One rollout: what it says is random, with the seed `number`."""
    dice = random.Random(number)
    words = ["def", "return", "parse", "line", "value", "self", "index", "text", "(x)", "==", "None", "\n    "]

    def work(turns: int, *, peeks: bool) -> list[Part]:
        parts: list[Part] = []
        for _ in range(turns):
            command = "git log --all -p" if peeks else dice.choice(COMMANDS)
            shown = " ".join(dice.choices(words, k=shown_words))
            parts += [said(f"I look at that now. {call('shell', command=command)}"), told(shown)]
        return parts

    prompt = "Fix the bug that makes parse() lose its last line."
    done = said(call("finish", result="done"))
    root = [begun(prompt), *work(6, peeks=False), said(call("fork", tasks=["a", "b", "c", "d"]))]
    edges = [edge(0, None, "a1", "root", *root, chat=chat)]
    for copy in range(1, 5):
        own = [told(f"You are copy {copy} of 4. Your task: {copy}"), *work(5, peeks=copy == 1 and number % 10 == 0)]
        edges.append(edge(copy, 0, f"a{copy + 1}", "fork", *own, done, chat=chat))
    joined = told("\n".join(f"a{copy}: done" for copy in range(2, 6)))
    edges.append(edge(5, 0, "a1", "continued", joined, done, chat=chat))
    members = [
        Member(id=f"a{n}", parent="a1" if n > 1 else None, kind="fork" if n > 1 else "root", task=f"{n}", result="done")
        for n in range(1, 6)
    ]
    leaves = [Leaf(edge=copy, agent=f"a{copy + 1}") for copy in range(1, 5)] + [Leaf(edge=5, agent="a1")]
    return Rollout(
        head=Head(
            v=VERSION,
            id=f"r{number}",
            task=f"t{number % 20}",
            group="g",
            run="",
            prompt=prompt,
            outcome=Outcome.FINISHED,
            result="done",
            members=tuple(members),
            leaves=tuple(leaves),
            terms=(Term(name="tests", agent="a1", score=float(dice.random() < 0.5), shared=True),),
            model=model,
            info={"answer": "a blue whale", "step": str(number // 20)},
        ),
        edges=tuple(edges),
    )


def case(path: Path, model: str) -> None:
    """Audit one file, in this process."""
    chat = Chat.load(model)
    watchers = [*(watcher() for watcher in WATCHERS), PartialInputs()]
    tokens = rows = count = 0
    began = time.process_time()
    for rollout, found in audit(read_rollouts(path), lambda _: chat, watchers=watchers):
        tokens += sum(len(one.tokens) for one in rollout.edges)
        rows, count = rows + len(found), count + 1
    rows += sum(len(list(watcher.rows())) for watcher in watchers)
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rollouts": count, "tokens": tokens, "rows": rows, "cpu_s": spent, "peak_MiB": peak}))


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="seedling")
    parser.add_argument("--rollouts", type=int, default=200)
    parser.add_argument("--words", type=int, default=400, help="of a result; with few, turns dominate")
    parser.add_argument("--case", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = resolve_model(arguments.model)
    if arguments.case:
        case(arguments.case, model)
        return
    chat = Chat.load(model)
    measured = []
    with tempfile.TemporaryDirectory() as directory:
        for times in (1, 4):
            path = Path(directory) / f"{times}.jsonl"
            with path.open("wb") as file:
                for number in range(times * arguments.rollouts):
                    write_rollout(file, synthetic(chat, model, number, arguments.words))
            command = [sys.executable, "-m", "benchmarks.audit", "--model", model, "--case", str(path)]
            # One core: the tokenizer would take more.
            environment = os.environ | {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            measured.append(json.loads(done.stdout))
    short, long = measured
    print(
        json.dumps(
            {
                "benchmark": "audit",
                "tokens": short["tokens"],
                "rows": short["rows"],
                "tokens_per_s": round(short["tokens"] / short["cpu_s"]),
                "tokens_per_s_4x": round(long["tokens"] / long["cpu_s"]),
                "peak_MiB": round(short["peak_MiB"], 1),
                "peak_MiB_4x": round(long["peak_MiB"], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
