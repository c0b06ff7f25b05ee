"""Held-out stories through the real harness and a real server: `python -m examples.train_seedling.evaluate MODEL`.

Owns the exam: its seeds (none of which training or its own check uses), the tally by kind and by number of files,
and, where an answer is wrong, the first action that is not the teacher's. Prints one JSON object, a tally by story.
Every action is the model's: the harness carries out what was sampled, greedily, and nothing is constrained or
repaired. A review is right if the result is, and if it was sent back exactly when it was wrong.
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
from runtime import Engine, Outcome, SGLang, Swarm
from runtime.demo import Story, Survey, check, corrector, make_story, settings_of, write_survey
from runtime.records import Settings

EXAM_SEED = 4_000_000
COUNTS = {Story.SURVEY: 200, Story.ONBOARDING: 100, Story.DETOUR: 100, Story.REVIEW: 100}


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One story's outcome. `wrong` is the first action that differs from the teacher's, and what it should be."""

    seed: int
    story: str
    kind: str
    files: int
    right: bool
    answer: str
    expected: str
    turns: int
    wrong: dict[str, str] | None = None


def exam(story: Story, count: int, offset: int = 0) -> list[tuple[int, Survey]]:
    """The exam in one story, each question with its seed."""
    seeds = range(EXAM_SEED + offset, EXAM_SEED + offset + count)
    return [(seed, make_story(Random(seed), story, split="heldout")) for seed in seeds]


async def sit(engine: Engine, chat: Chat, seed: int, survey: Survey, settings: Settings | None = None) -> Mark:
    """Let a swarm answer one question in a directory of its own, with its story's settings or others."""
    settings = settings or settings_of(survey.story)
    with tempfile.TemporaryDirectory(prefix="seedling-") as directory:
        write_survey(survey, Path(directory))
        corrects = corrector(survey, Path(directory))
        async with Swarm(engine, directory, chat=chat, settings=settings, observers=[corrects]) as swarm:
            lead = await swarm.start(survey.question)
            result = await lead.result()
        heads = [agent.head for agent in swarm.state.agents.values()]
    returned = len(lead.state.returned) == len(survey.corrected)
    right = check(survey, result.text) and result.outcome is Outcome.FINISHED and returned
    return Mark(
        seed=seed,
        story=survey.story,
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
        "stories": len(marks),
        "turns": sum(mark.turns for mark in marks),
        "by_kind": {kind: share([m for m in marks if m.kind == kind]) for kind in sorted({m.kind for m in marks})},
        "by_files": {n: share([m for m in marks if m.files == n]) for n in sorted({m.files for m in marks})},
        "wrong": [msgspec.to_builtins(mark) for mark in marks if not mark.right],
    }


async def evaluate(model: Path, counts: dict[Story, int], offset: int, at_once: int, url: str | None) -> dict[str, Any]:
    """Sit the exam on the server at `url`, or on one that is started for it."""
    marks: list[Mark] = []
    chat = await anyio.to_thread.run_sync(Chat.load, str(model))
    questions = iter([one for story, count in counts.items() for one in exam(story, count, offset)])

    async def worker(engine: Engine) -> None:
        for seed, survey in questions:
            marks.append(await sit(engine, chat, seed, survey))

    async with SGLang.connect(url) if url else SGLang.local(str(model)) as engine, anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(worker, engine)
    marks.sort(key=lambda mark: mark.seed)
    return {story: tally([mark for mark in marks if mark.story == story]) for story, count in counts.items() if count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    for story, count in COUNTS.items():
        parser.add_argument(f"--{story}", type=int, default=count, help="how many of this story")
    parser.add_argument("--offset", type=int, default=0, help="the first question's number: others, same exam")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--url", help="a server that serves the model already")
    options = parser.parse_args()
    counts = {story: getattr(options, story) for story in Story}
    run = partial(evaluate, options.model, counts, options.offset, options.at_once, options.url)
    print(msgspec.json.encode(anyio.run(run)).decode())


if __name__ == "__main__":
    main()
