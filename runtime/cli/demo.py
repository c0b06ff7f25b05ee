"""`ramet demo`: the seedling answers a question about files it has never seen, on this machine, end to end."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli._options import Json, Url, read_directory
from runtime.errors import BadInput

if TYPE_CHECKING:
    from runtime.cli._engine import Opener
    from runtime.demo import Question, Story
    from runtime.engine.base import Engine
    from runtime.recorder import Observer

__all__ = ["demo"]

STORIES = ("survey", "onboarding", "detour", "review")  # those of runtime.demo, which takes long to import


def demo(
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Your own files instead: one line `key: figure` in each.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="The question about them, in one of the known wordings.")] = None,
    files: Annotated[int | None, typer.Option(min=2, max=12, help="How many files to make.")] = None,
    story: Annotated[str | None, typer.Option(help=f"What to see: {', '.join(STORIES)}. Without it, a survey.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same number makes the same files.")] = None,
    url: Url = None,
    keep: Annotated[bool, typer.Option("--keep/--remove", help="Keep the files that were made.")] = True,
    as_json: Json = False,
) -> int:
    """Let a swarm answer a question about files with random figures, and check it: exits with 0 if it is right.

    A survey forks a copy for each file. In onboarding newcomers read them, who interview their parent first; in detour
    the agent rewinds once it knows what to look for; in review another agent checks the result, and the file may have
    been corrected meanwhile.
    """
    if story is not None and story not in STORIES:
        raise BadInput("--story", f"is one of {', '.join(STORIES)}, not {story!r}")
    if story is not None and directory is not None:
        raise BadInput("--story", "follows from the question where --dir is given")
    if (directory is None) != (question is None):
        field, other = ("--question", "--dir") if question is None else ("--dir", "--question")
        raise BadInput(field, f"is needed with {other}")
    if directory is not None and question is not None:
        given = read_directory(directory)
        asked, truth = _read(given, question)
        return _ask(given, question, asked.story, truth, _opener(url), (), as_json=as_json, url=url)
    return _made(story, files, seed, url, keep=keep, as_json=as_json)


def _made(story: str | None, files: int | None, seed: int | None, url: str | None, *, keep: bool, as_json: bool) -> int:
    """A demo on files made for it. They stay where something went wrong: it can be looked at, or resumed."""
    from runtime.demo import Story, corrector, make_story, write_survey
    from workspace import RAMET

    opener = _opener(url)
    number = seed if seed is not None else random.SystemRandom().randrange(1_000_000)
    # Of the held-out words and figures: none of them was in the seedling's lessons.
    survey = make_story(random.Random(number), Story(story or Story.SURVEY), files, split="heldout")
    place = Path(tempfile.mkdtemp(prefix="ramet-demo-"))
    write_survey(survey, place)
    if not as_json and sys.stdout.isatty():
        print(f"{len(survey.files | survey.trail)} files in {place} (--seed {number})")
    corrects = corrector(survey, place)
    try:
        code = _ask(place, survey.question, survey.story, survey.answer, opener, (corrects,), as_json=as_json, url=url)
    finally:
        if not (place / RAMET).exists():  # no run began: nothing to look at
            shutil.rmtree(place)
    if not keep and code == 0:
        shutil.rmtree(place)
    return code


def _read(directory: Path, question: str) -> tuple[Question, str]:
    """What is asked, and the answer worked out from the files. Raises SurveyError for another form of either."""
    from runtime.demo import follow, read_figures, read_question, truth

    asked = read_question(question)
    key = follow(directory, asked.trail) if asked.trail else asked.key
    figures = read_figures(directory, key, asked.directory)
    return asked, truth(figures, asked.kind, asked.threshold)


def _opener(url: str | None) -> Opener:
    from runtime.cli._engine import choose

    opened = choose(url, None)

    @asynccontextmanager
    async def installed(progress: Callable[[str], None]) -> AsyncIterator[Engine]:
        from runtime.engine.environment import install

        await install(progress)
        async with opened(progress) as engine:
            yield engine

    return opened if url is not None else installed


def _ask(
    directory: Path,
    question: str,
    story: Story,
    truth: str,
    opener: Opener,
    others: Sequence[Observer],
    *,
    as_json: bool,
    url: str | None,
) -> int:
    import shlex

    from runtime.cli._logs import to_stderr
    from runtime.cli._session import Session, choose_view
    from runtime.demo import settings_of
    from runtime.swarm import Swarm
    from runtime.view import Judgement

    to_stderr()
    session = Session(
        opener,
        lambda engine, observers: Swarm(
            engine, directory, settings=settings_of(story), observers=[*observers, *others]
        ),
        choose_view(as_json=as_json),
        task=question,
        hint=f" --url {shlex.quote(url)}" if url else "",
        judge=lambda answer: Judgement(truth=truth, right=answer.strip() == truth),
    )
    code = session.run()
    if not as_json and sys.stdout.isatty():
        print(f"The run's files: {session.root}\nLook at it again: ramet tree {shlex.quote(str(directory))}")
    return code
