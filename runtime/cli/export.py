"""`ramet export`: rollouts in the form that a trainer, or a viewer of traces, reads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from runtime.errors import BadInput

__all__ = ["export"]

To = Annotated[str, typer.Option("--to", help="slime, verl, trl, verifiers, atif or native.")]
Credit = Annotated[str, typer.Option("--credit", help="What tokens are worth: segment, independent, tree, rao, ...")]
Out = Annotated[Path | None, typer.Option("--out", help="Where to; standard output if left out.")]
Texts = Annotated[str | None, typer.Option("--tokenizer", help="A model whose tokenizer gives messages their texts.")]


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rollouts, as `ramet rollout` wrote them.")],
    to: To,
    credit: Credit = "segment",
    out: Out = None,
    tokenizer: Texts = None,
) -> int:
    """Write rollouts for slime, verl, TRL, verifiers (prime-rl) or ATIF, one JSON object a line.

    A part of FILE that is no rollout costs one line on standard error and the exit code 2; the rest is written.
    """
    from runtime.cli._main import USAGE, say
    from runtime.rollouts.credit import ESTIMATORS
    from runtime.rollouts.export import FORMATS, ROWS
    from runtime.rollouts.export import export as write

    _one_of("--to", to, FORMATS)
    _one_of("--credit", credit, ESTIMATORS)
    if not file.is_file():
        raise BadInput("FILE", f"no such file: {file}")
    if out is not None and out.exists() and out.samefile(file):
        raise BadInput("--out", f"{out} is the file that is read")
    decode = _decoder(tokenizer)
    wrong = 0

    def complain(line: str) -> None:
        nonlocal wrong
        wrong += 1
        say(line)

    partial = None if out is None else out.with_name(out.name + ".part")
    try:
        with nullcontext(sys.stdout.buffer) if partial is None else partial.open("wb") as sink:
            counts = write(file, to, sink, complain=complain, credit=credit, decode=decode)
        if out is not None and partial is not None and (counts.rollouts or not wrong):
            partial.replace(out)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise BadInput("--out" if out else "FILE", f"{error.filename or out or file}: {error.strerror}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    if to in ROWS:
        for reason, number in sorted(counts.without.items()):
            say(f"{number} of {counts.rollouts} rollouts make no row: {reason}")
    return USAGE if wrong else 0


def _one_of(option: str, given: str, known: object) -> None:
    names = list(known)  # type: ignore[call-overload]
    if given not in names:
        raise BadInput(option, f"unknown {given!r}; there are {', '.join(names)}")


def _decoder(model: str | None) -> Callable[..., str]:
    if model is None:
        return lambda _: ""
    from agents.tokenizer import ModelNotFound, load_tokenizer
    from runtime.engine.server import resolve_model

    try:
        return load_tokenizer(resolve_model(model)).decode
    except ModelNotFound as error:
        raise BadInput("--tokenizer", str(error)) from error
