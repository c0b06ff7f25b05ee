"""`ramet send`, `pause`, `continue` and `cancel`: what a person can tell a run that goes on, by mail."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import BadInput

if TYPE_CHECKING:
    from agents.host import Agent
    from workspace import RunLayout

__all__ = ["cancel", "pause", "proceed", "send"]

Target = Annotated[
    list[str], typer.Argument(metavar="[D] AGENT", help="The run (a project or a run's directory), and whom.")
]


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
    if not words[-1].strip():
        raise BadInput("TEXT", "the text is empty")
    from runtime.mail import ALL

    layout, agents = _run(words[:-1])
    to = [agent.id for agent in agents.values() if agent.outcome is None] if words[-2] == ALL else [words[-2]]
    for name in to or [ALL]:
        _living(name, agents, layout)
    _deliver(layout, to, subject, words[-1])
    typer.echo(f"sent to {', '.join(to)}")
    return 0


def pause(words: Target) -> int:
    """Let an agent, and all that it started, take no new turns until `ramet continue`."""
    return _order("pause", words)


def proceed(words: Target) -> int:
    """Let a paused agent, and all that it started, go on."""
    return _order("continue", words)


def cancel(words: Target) -> int:
    """End an agent, and all that it started, at once."""
    return _order("cancel", words)


def _order(verb: str, words: list[str]) -> int:
    if not 1 <= len(words) <= 2:
        raise BadInput(verb, "give AGENT, and before it the run's directory where it is not this one")
    from runtime.mail import ORDERS

    layout, agents = _run(words)
    _living(words[-1], agents, layout)
    _deliver(layout, [ORDERS], f"{verb} {words[-1]}", "")
    typer.echo(f"asked to {verb} {words[-1]}")
    return 0


def _run(words: list[str]) -> tuple[RunLayout, dict[str, Agent]]:
    """The run that the words before the last one name, and its agents."""
    from runtime.recorder import load
    from workspace import RunLayout

    layout = RunLayout.open(words[0] if len(words) > 1 else ".")
    return layout, load(layout).agents


def _living(name: str, agents: dict[str, Agent], layout: RunLayout) -> None:
    """Raises BadInput for an agent that is not there, or has ended."""
    found = agents.get(name)
    if found is None or found.outcome is not None:
        living = ", ".join(agent.id for agent in agents.values() if agent.outcome is None) or "none"
        reason = f"no agent {name!r} in {layout.root}" if found is None else f"{name} has ended ({found.outcome})"
        raise BadInput("AGENT", f"{reason}; alive: {living}")


def _deliver(layout: RunLayout, to: list[str], subject: str, text: str) -> None:
    from workspace import HUMAN, Letter, Post

    letter = Letter(
        id=f"{HUMAN}-{secrets.token_hex(6)}", sender=HUMAN, to=tuple(to), subject=subject, body=text, date=time.time()
    )
    Post(layout).deliver(letter)
