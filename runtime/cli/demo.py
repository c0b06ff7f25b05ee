"""`ramet demo`: the seedling answers a question about files it has never seen, on this machine, end to end."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli._options import Json, Url, read_directory
from runtime.errors import BadInput

if TYPE_CHECKING:
    from runtime.cli._engine import Opener
    from runtime.engine.base import Engine

__all__ = ["demo"]

# Ten times what twelve files take: a model that has lost its way is stopped within a minute.
SAMPLED_TOKENS, TURNS = 20_000, 400


def demo(
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Your own files instead: one line `key: figure` in each.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="The question about them, in one of the known wordings.")] = None,
    files: Annotated[int | None, typer.Option(min=2, max=12, help="How many files to make.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same number makes the same files.")] = None,
    url: Url = None,
    keep: Annotated[bool, typer.Option("--keep/--remove", help="Keep the files that were made.")] = True,
    as_json: Json = False,
) -> int:
    """Let a swarm survey files with random figures, and check its answer: exits with 0 if that is right."""
    if (directory is None) != (question is None):
        field, other = ("--question", "--dir") if question is None else ("--dir", "--question")
        raise BadInput(field, f"is needed with {other}")
    if directory is not None and question is not None:
        given = read_directory(directory)
        return _ask(given, question, _truth(given, question), _opener(url), as_json=as_json, url=url)
    return _made(files, seed, url, keep=keep, as_json=as_json)


def _made(files: int | None, seed: int | None, url: str | None, *, keep: bool, as_json: bool) -> int:
    """A demo on files made for it. They stay where something went wrong: it can be looked at, or resumed."""
    from runtime.demo import make_survey, write_survey
    from workspace import RAMET

    opener = _opener(url)
    number = seed if seed is not None else random.SystemRandom().randrange(1_000_000)
    # Of the held-out words and figures: none of them was in the seedling's lessons.
    survey = make_survey(random.Random(number), files, split="heldout")
    place = Path(tempfile.mkdtemp(prefix="ramet-demo-"))
    write_survey(survey, place)
    if not as_json and sys.stdout.isatty():
        print(f"{len(survey.files)} files in {place} (--seed {number})")
    try:
        code = _ask(place, survey.question, survey.answer, opener, as_json=as_json, url=url)
    finally:
        if not (place / RAMET).exists():  # no run began: nothing to look at
            shutil.rmtree(place)
    if not keep and code == 0:
        shutil.rmtree(place)
    return code


def _truth(directory: Path, question: str) -> str:
    """The answer, worked out from the files. Raises SurveyError where question or files have another form."""
    from runtime.demo import read_figures, read_question, truth

    asked = read_question(question)
    figures = read_figures(directory, asked.key, asked.directory)
    return truth(figures, asked.kind, asked.threshold)


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


def _ask(directory: Path, question: str, truth: str, opener: Opener, *, as_json: bool, url: str | None) -> int:
    import shlex

    from runtime.budget import Budget
    from runtime.cli._logs import to_stderr
    from runtime.cli._session import Session, choose_view
    from runtime.records import Settings
    from runtime.swarm import Swarm
    from runtime.view import Judgement

    to_stderr()
    settings = Settings(budget=Budget(sampled_tokens=SAMPLED_TOKENS, turns=TURNS))
    session = Session(
        opener,
        lambda engine, observers: Swarm(engine, directory, settings=settings, observers=observers),
        choose_view(as_json=as_json),
        task=question,
        hint=f" --url {shlex.quote(url)}" if url else "",
        judge=lambda answer: Judgement(truth=truth, right=answer.strip() == truth),
    )
    code = session.run()
    if not as_json and sys.stdout.isatty():
        print(f"The run's files: {session.root}\nLook at it again: ramet tree {shlex.quote(str(directory))}")
    return code
