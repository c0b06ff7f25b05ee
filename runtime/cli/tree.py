"""`ramet tree`: the agents of a run, running or not, and what each answered."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli._options import Json, Place
from runtime.errors import BadInput

if TYPE_CHECKING:
    from runtime.view import Line

__all__ = ["tree"]

# Of output that is no terminal: wide enough for tasks of a line, narrow enough for an e-mail or an editor.
PLAIN_WIDTH = 120
# Of a picture: what a README shows without making its letters small.
PICTURE_WIDTH = 100


def tree(
    place: Place = Path(),
    as_json: Json = False,
    svg: Annotated[Path | None, typer.Option(help="Write it as a picture instead.")] = None,
) -> int:
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
    if svg is not None:
        return _draw(lines(rows(state, times, now), PICTURE_WIDTH, results=True), totals(state, now), svg)
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


def _draw(drawn: list[Line], bill: str, file: Path) -> int:
    from rich.console import Console

    from runtime.view.live import styled

    console = Console(record=True, width=PICTURE_WIDTH, file=io.StringIO(), highlight=False, force_terminal=True)
    console.print(styled(drawn))
    console.print(bill, markup=False, style="bold")
    try:
        # Without the fonts that rich names by address: a picture loads nothing from anywhere.
        file.write_text(re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="ramet tree"), flags=re.DOTALL))
    except OSError as error:
        raise BadInput("--svg", f"cannot write {file}: {error.strerror}") from error
    return 0
