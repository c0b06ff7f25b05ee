"""Which engine a command works on: a running server, or one of its own.

Owns the choice between `--url` and `--model`, and how its start is told. Knows nothing of runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from runtime.errors import BadInput

if TYPE_CHECKING:
    from runtime.engine.base import Engine

__all__ = ["API_KEY", "Opener", "choose", "reporting"]

API_KEY = "RAMET_API_KEY"  # an environment variable, because a command line can be read by everybody

Opener = Callable[[Callable[[str], None]], "AbstractAsyncContextManager[Engine]"]
"""Opens an engine, telling the function it is given how far it is, in lines for a person."""


def choose(url: str | None, model: str | None) -> Opener:
    """How to open the engine that was asked for. Raises BadInput, or EngineRefused for a model that is not there."""
    if url is not None and model is not None:
        raise BadInput("--model", "goes without --url: a running server has its model already")
    from runtime.engine.sglang import SGLang

    if url is not None:
        address = url
        if not address.startswith(("http://", "https://")):
            raise BadInput("--url", f"not an http:// or https:// address: {address!r}")
        return lambda _progress: SGLang.connect(address, api_key=os.environ.get(API_KEY))
    from runtime.engine.server import resolve_model

    name = resolve_model(model or "seedling")
    return lambda progress: SGLang.local(name, progress=progress)


def reporting(*, as_json: bool = False) -> tuple[Callable[[str], None], Callable[[], None]]:
    """How to say how far something is, and how to stop saying it: to a person at a terminal, or to a program."""
    if as_json:
        from runtime.view import Events

        return Events(sys.stdout).progress, lambda: None
    if not sys.stderr.isatty():
        return (lambda _line: None), (lambda: None)
    from rich.console import Console

    from runtime.view.progress import ProgressLine

    line = ProgressLine(Console(stderr=True, highlight=False))
    return line, line.close
