"""The errors of the runtime, and what a person is told of them.

    error                          raised by                       caught by                  what comes of it
    ─────────────────────────────  ──────────────────────────────  ─────────────────────────  ─────────────────────
    a bug (anything not below)     anybody                         nobody                     traceback, exit 1
    a stop: `Outcome`              (data, never raised)                                       exit 0, 1 or 3
    EngineError                    runtime/engine                  the swarm, for one agent   that agent has failed
    ├── EngineUnavailable          ... where there is no engine    the command line           exit 1
    └── EngineRefused              ... by us, before it is sent    the command line           exit 2
                                   ... by the server (`status`)    the command line           exit 1
    WorkspaceError                 workspace (its tree: workspace/errors.py)
    ├── FileError, CommandRefused  file tools, the sandbox         the agent's loop           an error result
    ├── JournalError               the journal, written            the command line           exit 1, can be resumed
    │   ├── JournalLocked          another process has the run     the command line           exit 2
    │   └── JournalCorrupt         a line of the file is not ours  the command line           exit 2
    └── NotARun and the others     a path that a person gave       the command line           exit 2
    ToolRefused                    tools, the swarm                the agent's loop           an error result
    ChatError, ModelNotFound       agents: no usable tokenizer     the command line           exit 2
    SurveyError                    runtime/demo: files not in the documented form             exit 2
    TaskRefused                    rollouts: a task of several     `load_tasks`               a line, the others go on
                                   ... the only one                the command line           exit 2
    ImageFailed                    rollouts: an image              `collect`                  data on the attempt
    RolloutCorrupt                 rollouts: a file that is cut    the command line           exit 2
    BadInput                       the command line                the command line           exit 2
    OutputLost                     the event stream                the command line           exit 1, can be resumed
    Interrupted                    the command line, on a signal   the command line           exit 130, as above
    RunStopped                     the command line, around any of these once a run has begun: adds how to go on

Exception groups are unwrapped in one place, `verdict`, which drops no error of the group: unless every one of them is
known, the whole is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

__all__ = ["BadInput", "Interrupted", "OutputLost", "RunStopped", "Verdict", "leaves", "verdict"]

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class BadInput(Exception):
    """An argument, option or file that cannot be used. One line, which names it and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class OutputLost(Exception):
    """Nobody can be told how the run goes: standard output is closed, or what it goes to is full."""


class Interrupted(Exception):
    """A signal asked us to stop. Whatever was under way has been cancelled and has cleaned up."""

    def __init__(self, signal: int) -> None:
        super().__init__("interrupted")
        self.signal = signal


class RunStopped(Exception):
    """A run stopped before its end, because of `__cause__`. Its journal is whole: `root` can be resumed."""

    def __init__(self, root: Path, resume: str) -> None:
        super().__init__(f"go on with: {resume}")
        self.root = root
        self.resume = resume


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is told: lines for standard error, and the exit code."""

    messages: tuple[str, ...]
    code: int


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, of groups in it, and so on; of anything else itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def verdict(error: BaseException) -> Verdict | None:
    """What to tell a person of `error`, or None if it is a bug."""
    messages: dict[str, None] = {}
    worst = 0
    for leaf in leaves(error):
        code = _code(leaf)
        if code is None:
            return None
        worst = max(worst, code)
        messages[str(leaf) + _hint(leaf)] = None
    return Verdict(messages=tuple(messages), code=worst)


def _code(error: BaseException) -> int | None:
    # Imported here: only a command that fails needs to know every floor's errors.
    from agents.chat import ChatError
    from agents.tokenizer import ModelNotFound
    from runtime.demo import SurveyError
    from runtime.engine.base import EngineError, EngineRefused
    from runtime.rollouts.schema import RolloutCorrupt
    from runtime.rollouts.tasks import TaskRefused
    from workspace import JournalCorrupt, JournalError, JournalLocked, WorkspaceError

    match error:
        case Interrupted() | KeyboardInterrupt():
            return INTERRUPTED
        case BadInput() | ChatError() | ModelNotFound() | SurveyError() | JournalLocked() | JournalCorrupt():
            return BAD_INPUT
        case RolloutCorrupt() | TaskRefused():
            return BAD_INPUT
        case EngineRefused():
            return BAD_INPUT if error.status is None else FAILED
        case EngineError() | JournalError() | OutputLost():
            return FAILED
        case WorkspaceError():
            return BAD_INPUT
        case _:
            return None


def _hint(error: BaseException) -> str:
    """What a person can do about it, where the one who raised it could not know: it knows no command line."""
    if getattr(error, "status", None) in (401, 403):
        return " (the server's key goes into the environment variable RAMET_API_KEY)"
    return ""
