"""`ramet tree`: the agents of a run, running or not, and what each answered."""

from __future__ import annotations

import sys
from pathlib import Path

from runtime.cli._options import Json, Place

__all__ = ["tree"]

# Of output that is no terminal: wide enough for tasks of a line, narrow enough for an e-mail or an editor.
PLAIN_WIDTH = 120


def tree(place: Place = Path(), as_json: Json = False) -> int:
    """Show the agents of a run as a tree. Reads the journal alone, so it can be used while the run goes on."""
    from runtime.recorder import records
    from runtime.state import RunState
    from runtime.view import Times, lines, nested, rows, totals
    from workspace import RunLayout

    layout = RunLayout.open(place)
    state, times = RunState(), Times()
    for record in records(layout):
        state.apply(record)
        times.observe(record)
    if as_json:
        import msgspec

        print(msgspec.json.encode(nested(state, times)).decode())
        return 0
    now = state.last_at
    if not sys.stdout.isatty():
        drawn = lines(rows(state, times, now), PLAIN_WIDTH, results=True)
        print("\n".join((line.left + line.right).rstrip() for line in drawn))
        print(totals(state, now))
        return 0
    from rich.console import Console

    from runtime.view.live import styled

    console = Console(highlight=False)
    console.print(styled(lines(rows(state, times, now), console.width, results=True)))
    console.print(totals(state, now), markup=False, style="bold")
    return 0
