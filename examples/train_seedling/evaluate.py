"""Held-out surveys through the real harness and a real server: `python -m examples.train_seedling.evaluate MODEL`.

Owns the exam: its seeds (none of which training or its own check uses), the tally by kind and by number of files,
and, where an answer is wrong, the first action that is not the teacher's. Prints one JSON object. Every action is
the model's: the harness carries out what was sampled, greedily, and nothing is constrained or repaired.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import msgspec

from agents.chat import Chat
from agents.context import Origin, Segment
from examples.train_seedling.teachers import decide
from runtime import Budget, Engine, SGLang, Swarm
from runtime.demo import Survey, check, make_survey, write_survey

EXAM_SEED = 4_000_000


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One survey's outcome. `wrong` is the first action that differs from the teacher's, and what it should be."""

    seed: int
    kind: str
    files: int
    right: bool
    answer: str
    expected: str
    turns: int
    wrong: dict[str, str] | None = None


def exam(count: int, offset: int = 0) -> list[tuple[int, Survey]]:
    """The surveys of the exam, each with its seed."""
    seeds = range(EXAM_SEED + offset, EXAM_SEED + offset + count)
    return [(seed, make_survey(Random(seed), split="heldout")) for seed in seeds]


async def sit(engine: Engine, chat: Chat, seed: int, survey: Survey) -> Mark:
    """Let a swarm answer one survey in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="seedling-") as directory:
        write_survey(survey, Path(directory))
        # The demo's own limits: a model that has lost its way does not hold up the exam.
        async with Swarm(engine, directory, chat=chat, budget=Budget(sampled_tokens=20_000, turns=400)) as swarm:
            result = await (await swarm.start(survey.question)).result()
        heads = [agent.head for agent in swarm.state.agents.values()]
    right = check(survey, result.text)
    return Mark(
        seed=seed,
        kind=survey.kind,
        files=len(survey.files),
        right=right,
        answer=result.text[:200],
        expected=survey.answer,
        turns=swarm.statistics().turns,
        wrong=None if right else first_difference(heads, chat),
    )


def first_difference(heads: Sequence[Segment], chat: Chat) -> dict[str, str] | None:
    """The first sampled turn, copies before their parent's later turns, that is not what the teacher would do."""
    turns = {id(s): s for head in heads for s in head.path() if s.origin is Origin.SAMPLED}
    for segment in sorted(turns.values(), key=lambda s: s.id):
        said = chat.text(segment.tokens)
        try:
            taught = decide(chat.text(segment.parent.ids() if segment.parent else [])) + "<|im_end|>"
        except ValueError as error:
            taught = f"(the teacher has no answer: {error})"
        if said != taught:
            return {"said": said[:400], "taught": taught[:400]}
    return None


def tally(marks: Sequence[Mark]) -> dict[str, Any]:
    """Shares of right answers: of all, by kind, by number of files."""

    def share(of: Sequence[Mark]) -> str:
        return f"{sum(mark.right for mark in of)}/{len(of)}"

    return {
        "right": sum(mark.right for mark in marks) / len(marks),
        "surveys": len(marks),
        "turns": sum(mark.turns for mark in marks),
        "by_kind": {kind: share([m for m in marks if m.kind == kind]) for kind in sorted({m.kind for m in marks})},
        "by_files": {n: share([m for m in marks if m.files == n]) for n in sorted({m.files for m in marks})},
        "wrong": [msgspec.to_builtins(mark) for mark in marks if not mark.right],
    }


async def evaluate(model: Path, count: int, offset: int, at_once: int, url: str | None) -> dict[str, Any]:
    """Sit the exam on the server at `url`, or on one that is started for it."""
    marks: list[Mark] = []
    chat = await anyio.to_thread.run_sync(Chat.load, str(model))
    surveys = iter(exam(count, offset))

    async def worker(engine: Engine) -> None:
        for seed, survey in surveys:
            marks.append(await sit(engine, chat, seed, survey))

    async with SGLang.connect(url) if url else SGLang.local(str(model)) as engine, anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(worker, engine)
    return tally(sorted(marks, key=lambda mark: mark.seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--surveys", type=int, default=200)
    parser.add_argument("--offset", type=int, default=0, help="the first survey's number: other surveys, same exam")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--url", help="a server that serves the model already")
    options = parser.parse_args()
    run = partial(evaluate, options.model, options.surveys, options.offset, options.at_once, options.url)
    print(msgspec.json.encode(anyio.run(run)).decode())


if __name__ == "__main__":
    main()
