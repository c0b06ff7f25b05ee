"""`ramet run`: start a task and stay with it until it ends."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from runtime.cli._options import (
    BudgetText,
    Constrain,
    Json,
    LimitText,
    Model,
    TurnTokens,
    Unsandboxed,
    Url,
    read_budget,
    read_directory,
    read_limits,
    read_task,
)

__all__ = ["run"]


def run(
    task: Annotated[str, typer.Argument(metavar="TASK|FILE", help="The task, or a text file that holds it.")],
    directory: Annotated[Path, typer.Option("--dir", help="The files to work on.")] = Path(),
    url: Url = None,
    model: Model = None,
    budget: BudgetText = "",
    limit: LimitText = "",
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 takes the likeliest token.")] = 0.0,
    turn_tokens: TurnTokens = 2048,
    constrain: Constrain = False,
    unsandboxed: Unsandboxed = False,
    check: Annotated[
        str, typer.Option(metavar="CMD", help="A command that must pass before the result is accepted.")
    ] = "",
    review: Annotated[
        bool, typer.Option("--review", help="Have the result reviewed by a fresh agent before it is accepted.")
    ] = False,
    review_rounds: Annotated[int, typer.Option(min=0, help="A result that was refused so many times is rejected.")] = 3,
    as_json: Json = False,
) -> int:
    """Run a task to its end. Exits with 0 finished, 1 failed or rejected, 2 bad input, 3 out of budget, 130 stopped."""
    text = read_task(task)
    place = read_directory(directory)
    allowance, limits = read_budget(budget), read_limits(limit)
    from runtime.cli._engine import choose

    engine = choose(url, model)
    from runtime.cli._logs import to_stderr
    from runtime.cli._session import Session, choose_view
    from runtime.records import Settings
    from runtime.swarm import Swarm

    to_stderr()
    settings = Settings(
        temperature=temperature,
        turn_tokens=turn_tokens,
        constrain=constrain,
        unsandboxed=unsandboxed,
        budget=allowance,
        limits=limits,
        check=check,
        review=review,
        review_rounds=review_rounds,
    )
    session = Session(
        engine,
        lambda opened, observers: Swarm(opened, place, settings=settings, observers=observers, attended=True),
        choose_view(as_json=as_json),
        task=text,
        hint=f" --url {shlex.quote(url)}" if url else "",
    )
    return session.run()
