"""`ramet send`: write to an agent of a run."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import BadInput

__all__ = ["send"]


def send(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[D] AGENT TEXT", help="The run (a project or a run's directory), whom to, and what."),
    ],
    subject: Annotated[str, typer.Option(help="What it is about.")] = "",
) -> int:
    """Write to an agent, or to all: it reads that at the start of its next turn. What it answers is mail to human."""
    if not 2 <= len(words) <= 3:
        raise BadInput("send", "give AGENT and TEXT, and before them the run's directory where it is not this one")
    place, (name, text) = Path(words[0] if len(words) == 3 else "."), words[-2:]
    if not text.strip():
        raise BadInput("TEXT", "the text is empty")
    from runtime.mail import ALL, HUMAN
    from runtime.recorder import load
    from workspace import Letter, Post, RunLayout, harmless

    layout = RunLayout.open(place)
    agents = load(layout).agents
    living = [agent.id for agent in agents.values() if agent.outcome is None]
    to = living if name == ALL else [name]
    if not to or to[0] not in living:
        outcome = agents[name].outcome if name in agents else None
        reason = f"{name} has ended ({outcome})" if outcome else f"no agent {name!r} in {layout.root}"
        raise BadInput("AGENT", f"{reason}; alive: {', '.join(living) or 'none'}")
    letter = Letter(
        id=f"{HUMAN}-{secrets.token_hex(6)}", sender=HUMAN, to=tuple(to), subject=subject, body=text, date=time.time()
    )
    Post(layout).deliver(letter)
    typer.echo(harmless(f"sent to {', '.join(to)}"))
    return 0
