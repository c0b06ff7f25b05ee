"""The seedling learns from its own swarms: `python -m examples.train_seedling.rl`.

Weakens the shipped seedling on purpose (seeded noise on its weights), then, again and again: attempts surveys in
groups on a real server, gives every segment its credit, takes policy-gradient steps on the rows, and serves the new
weights, the cache flushed. Before, in between and at the end it answers held-out surveys (other words, keys and
figures), greedily.

Owns the loop and its record: `--out` gets a file of rollouts and one of rows a step, the weights, and `curve.jsonl`, a
line a step, which is printed as well. The last line is the run in one JSON object. Everything is seeded, but sampling
on a server that batches is not bitwise repeatable, so neither is a curve.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import structs

from agents.chat import Chat
from examples.train_seedling.__main__ import MALLOC
from examples.train_seedling.evaluate import sit
from runtime import Budget, SGLang
from runtime.demo import Story, make_story, settings_of
from runtime.engine.environment import locate, variables
from runtime.engine.server import resolve_model
from runtime.rollouts import Rollout, story_task, write_rollout
from runtime.rollouts.collect import collect
from runtime.rollouts.credit import independent, rows, segment

TASK_SEED, EXAM_SEED = 5_000_000, 6_000_000  # not those that the seedling was trained and examined with
# Twice what three files take: an attempt that has lost its way earns nothing by going on. In exams too.
LIMITS = {"budget": Budget(sampled_tokens=600, turns=40), "turn_tokens": 128}
STEP = "step"  # of `Head.info`: audits of a series of steps go by it


class Trainer:
    """The process that holds the weights."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests, self._answers = process.stdin, BufferedByteReceiveStream(process.stdout)

    async def answer(self) -> dict[str, Any]:
        """Its next line."""
        answer: dict[str, Any] = json.loads(await self._answers.receive_until(b"\n", 2**20))
        return answer

    async def learn(self, file: Path, out: Path) -> dict[str, Any]:
        """Take steps on a file of rows, and write the weights."""
        await self._requests.send(json.dumps({"rows": str(file), "out": str(out)}).encode() + b"\n")
        return await self.answer()


@asynccontextmanager
async def trainer(model: Path, weak: Path, options: argparse.Namespace) -> AsyncIterator[Trainer]:
    """A trainer, ready, once it has written the weakened model to `weak`."""
    environment = locate()
    command = [str(environment.python), "-m", "examples.train_seedling.policy", str(model), "--out", str(weak)]
    command += ["--weaken", str(options.weaken), "--rate", str(options.rate), "--seed", str(options.seed)]
    environ = variables(environment) | {"PYTHONPATH": ".", **MALLOC}
    async with await anyio.open_process(command, stdout=subprocess.PIPE, stderr=sys.stderr, env=environ) as process:
        one = Trainer(process)
        await one.answer()
        try:
            yield one
        finally:
            process.terminate()


async def attempt(engine: SGLang, step: int, options: argparse.Namespace, file: Path) -> list[list[Rollout]]:
    """A step's groups of attempts, written to `file` as they come."""
    first = TASK_SEED + step * options.tasks
    tasks = [story_task(Story.SURVEY, first + n, files=options.files) for n in range(options.tasks)]
    tasks = [
        structs.replace(task, info={**task.info, STEP: str(step)}, settings={**task.settings, **LIMITS})
        for task in tasks
    ]
    groups: dict[str, list[Rollout]] = {}
    with file.open("wb") as written:
        async with collect(tasks, group=options.group, engine=engine, at_once=options.at_once) as collected:
            async for rollout in collected:
                write_rollout(written, rollout)
                groups.setdefault(rollout.head.group, []).append(rollout)
    return list(groups.values())


def write_rows(groups: Sequence[Sequence[Rollout]], file: Path) -> dict[str, int]:
    """Segment rows of all groups; returns how many tokens they train, and how many rows of whole paths would."""
    trained = {"segment": 0, "independent": 0}
    encoder = msgspec.json.Encoder()
    with file.open("wb") as out:
        for group in groups:
            for rollout, parts, whole in zip(group, segment(group), independent(group), strict=True):
                for row in rows(rollout, parts):
                    trained["segment"] += sum(row.mask)
                    out.write(encoder.encode(row) + b"\n")
                trained["independent"] += sum(sum(row.mask) for row in rows(rollout, whole))
    return trained


async def examine(engine: SGLang, chat: Chat, options: argparse.Namespace) -> float:
    """The share of held-out surveys that are answered right, greedily."""
    seeds = iter(range(EXAM_SEED, EXAM_SEED + options.exam))
    right: list[bool] = []
    settings = structs.replace(settings_of(Story.SURVEY), **LIMITS)

    async def work() -> None:
        for seed in seeds:
            survey = make_story(Random(seed), Story.SURVEY, options.files, split="heldout")
            right.append((await sit(engine, chat, seed, survey, settings)).right)

    async with anyio.create_task_group() as group:
        for _ in range(options.at_once):
            group.start_soon(work)
    return sum(right) / len(right)


async def learn(options: argparse.Namespace) -> None:
    """The whole run."""
    out = anyio.Path(options.out)
    await out.mkdir(parents=True, exist_ok=True)
    weak, model = options.out / "weak", Path(resolve_model(options.model))
    started = time.monotonic()
    curve: list[dict[str, Any]] = []
    with (options.out / "curve.jsonl").open("w") as log:

        def note(**point: Any) -> None:
            curve.append(point | {"minutes": round((time.monotonic() - started) / 60, 1)})
            log.write(json.dumps(curve[-1]) + "\n")
            log.flush()
            print(json.dumps(curve[-1]), flush=True)

        async with trainer(model, weak, options) as teacher, SGLang.local(str(weak)) as engine:
            chat = await anyio.to_thread.run_sync(Chat.load, str(weak))
            note(step=0, heldout=await examine(engine, chat, options))
            for step in range(1, options.steps + 1):
                groups = await attempt(engine, step, options, options.out / f"rollouts-{step:03d}.jsonl")
                file = options.out / f"rows-{step:03d}.jsonl"
                trained = write_rows(groups, file)
                learned = await teacher.learn(file, options.out / "weights")
                await engine.load(options.out / "weights", f"step-{step}")
                scores = [term.score or 0.0 for group in groups for one in group for term in one.head.terms]
                point = {"step": step, "right": round(sum(scores) / len(scores), 3), "trained": trained, **learned}
                point["dead_groups"] = sum(len({one.head.terms for one in group}) == 1 for group in groups)
                if step % options.exam_every == 0 or step == options.steps:
                    point["heldout"] = await examine(engine, chat, options)
                note(**point)
    measured = [point["heldout"] for point in curve if "heldout" in point]
    every = [point["trained"] for point in curve if "trained" in point]
    print(
        json.dumps(
            {
                "before": measured[0],
                "after": measured[-1],
                "points": round(100 * (measured[-1] - measured[0]), 1),
                "exam": options.exam,
                "tokens_trained": {kind: sum(one[kind] for one in every) for kind in ("segment", "independent")},
                "options": {name: str(value) for name, value in vars(options).items()},
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="seedling")
    parser.add_argument("--out", type=Path, default=Path("build/rl"))
    parser.add_argument("--weaken", type=float, default=0.3, help="noise, in units of each matrix's own size")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--tasks", type=int, default=10, help="a step")
    parser.add_argument("--group", type=int, default=8, help="attempts at each task")
    parser.add_argument("--files", type=int, default=3, help="of each survey")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--exam", type=int, default=200, help="held-out surveys")
    parser.add_argument("--exam-every", type=int, default=4, help="steps")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    anyio.run(learn, parser.parse_args())


if __name__ == "__main__":
    main()
