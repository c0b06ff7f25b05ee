"""`ramet run`: start a task and stay with it until it ends."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from runtime.cli._options import Json, Model, Url, read_budget, read_directory, read_task

__all__ = ["run"]


def run(
    task: Annotated[str, typer.Argument(metavar="TASK|FILE", help="The task, or a text file that holds it.")],
    directory: Annotated[Path, typer.Option("--dir", help="The files to work on.")] = Path(),
    url: Url = None,
    model: Model = None,
    budget: Annotated[
        str,
        typer.Option(
            help="Limits, such as sampled_tokens=200000,turns=500; also computed_tokens, seconds, depth, agents. "
            "none is no limit.",
        ),
    ] = "",
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 takes the likeliest token.")] = 0.0,
    turn_tokens: Annotated[int, typer.Option(min=16, help="The most tokens one turn may sample.")] = 2048,
    constrain: Annotated[bool, typer.Option("--constrain", help="Let turns be well-formed tool calls only.")] = False,
    unsandboxed: Annotated[
        bool, typer.Option("--unsandboxed", help="Run shell commands without a sandbox where none can be had.")
    ] = False,
    check: Annotated[
        str, typer.Option(metavar="CMD", help="A command that must pass before the result is accepted.")
    ] = "",
    review: Annotated[
        bool, typer.Option("--review", help="Have the result reviewed by a fresh agent before it is accepted.")
    ] = False,
    review_rounds: Annotated[int, typer.Option(min=0, help="How often at most a result is sent back.")] = 3,
    as_json: Json = False,
) -> int:
    """Run a task to its end. Exits with 0 finished, 1 failed or rejected, 2 bad input, 3 out of budget, 130 stopped."""
    text = read_task(task)
    place = read_directory(directory)
    limits = read_budget(budget)
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
        budget=limits,
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
