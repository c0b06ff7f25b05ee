"""The boundary between the program and the person who typed the command.

Owns exit codes and what goes to standard error. Invariants: every error that `runtime.errors` knows becomes one line
`ramet: ...` and its exit code, and exception groups are unwrapped nowhere else; a bug keeps its traceback; what is
shown cannot drive the terminal. Knows no command.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from typer.exceptions import TyperException

__all__ = ["main", "run"]

BUG, USAGE, INTERRUPTED = 1, 2, 130


def main() -> NoReturn:
    """The `ramet` command."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter of somebody's task is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    try:
        from runtime.cli._app import app

        code = app(list(arguments), prog_name="ramet", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except TyperException as error:
        say(" ".join(error.format_message().split()))
        return USAGE
    except BrokenPipeError:
        # `ramet tree | head`: the reader has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return report(error)


def report(error: Exception) -> int:
    """Say what happened; returns the exit code."""
    from runtime.errors import RunStopped, verdict

    resume = None
    if isinstance(error, RunStopped) and error.__cause__ is not None:
        resume, cause = error, error.__cause__
    else:
        cause = error
    known = verdict(cause)
    if known is None:
        traceback.print_exception(cause)
    else:
        for message in known.messages:
            say(message)
    if resume is not None:
        say(str(resume))
    return BUG if known is None else known.code


def say(message: str) -> None:
    """One line (more where an engine's log is quoted) on standard error."""
    from workspace import harmless

    print(f"ramet: {harmless(message)}", file=sys.stderr, flush=True)
