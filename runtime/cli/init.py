"""`ramet init`: let an agent write down how swarms should work on this project."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from agents.host import Outcome
from runtime.cli._options import BudgetText, Json, Model, Url, read_budget, read_directory

__all__ = ["init"]


def init(
    directory: Annotated[Path, typer.Argument(metavar="[D]", help="The project.")] = Path(),
    url: Url = None,
    model: Model = None,
    budget: BudgetText = "",
    as_json: Json = False,
) -> int:
    """Have an agent explore the project and write a section of AGENTS.md, which every later agent gets.

    Only the section between its own two marker lines is replaced. Exit codes are those of `ramet run`.
    """
    place, limits = read_directory(directory), read_budget(budget)
    from runtime.cli._engine import choose

    engine = choose(url, model)
    from agents.prompts import prompt
    from runtime.cli._logs import to_stderr
    from runtime.cli._session import Session, choose_view
    from runtime.records import Settings
    from runtime.swarm import Swarm
    from workspace import write_section

    to_stderr()
    session = Session(
        engine,
        lambda opened, observers: Swarm(opened, place, settings=Settings(budget=limits), observers=observers),
        choose_view(as_json=as_json),
        task=prompt("init"),
        hint=f" --url {shlex.quote(url)}" if url else "",
    )
    code = session.run()
    if session.outcome is Outcome.FINISHED:
        path = write_section(place, session.result)
        if not as_json and sys.stdout.isatty():
            typer.echo(f"wrote its section of {path}")
    return code
