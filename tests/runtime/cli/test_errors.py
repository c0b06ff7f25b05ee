"""What a person is told of an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.cli._main import report
from runtime.engine.base import EngineRefused, EngineUnavailable
from runtime.errors import BadInput, Interrupted, RunStopped, verdict
from runtime.rollouts.schema import RolloutCorrupt
from runtime.rollouts.tasks import TaskRefused
from tests.runtime.cli.conftest import ROOT
from workspace import JournalError, JournalLocked


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("--dir", "no such directory"), 2),
        (JournalLocked("j", "in use"), 2),
        (JournalError("j", "full"), 1),
        (EngineUnavailable("gone"), 1),
        (EngineRefused("no such model"), 2),
        (EngineRefused("refused", status=400), 1),
        (TaskRefused("tasks.jsonl:1: prompt: the text is empty"), 2),
        (RolloutCorrupt("rollouts.jsonl:3: the file ends within the rollout 'r'"), 2),
        (Interrupted(2), 130),
    ],
)
def test_known_errors(error: Exception, code: int) -> None:
    """Each has its exit code, alone or in groups of groups."""
    for shape in (error, ExceptionGroup("", [ExceptionGroup("", [error])])):
        known = verdict(shape)
        assert known is not None
        assert (known.messages, known.code) == ((str(error),), code)


def test_no_error_of_a_group_is_dropped() -> None:
    """Each message is told once; with a bug among them the whole group is a bug."""
    group = ExceptionGroup("", [EngineUnavailable("one"), EngineUnavailable("two"), EngineUnavailable("one")])
    known = verdict(group)
    assert known is not None
    assert known.messages == ("one", "two")
    assert verdict(ExceptionGroup("", [EngineUnavailable("one"), ZeroDivisionError()])) is None


def test_a_command_that_fails_loads_no_engine() -> None:
    """To know every floor's errors takes neither what makes rollouts nor HTTP nor a tokenizer."""
    heavy = {"httpx", "runtime.rollouts.collect", "runtime.swarm", "tokenizers"}
    program = f"import sys; from runtime.errors import verdict; verdict(OSError()); print({heavy} & sys.modules.keys())"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("set()\n", "")


def test_a_server_that_wants_a_key() -> None:
    """Its refusal comes with the name of the variable that the key goes into."""
    known = verdict(EngineRefused("unauthorized", status=401))
    assert known is not None
    assert "RAMET_API_KEY" in known.messages[0]


def test_a_bug_keeps_its_traceback_and_the_way_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that a bug stopped exits with 1, shows where the bug is, and says how to resume."""
    stopped = RunStopped(Path("/p/.ramet/r"), "ramet resume /p/.ramet/r")
    stopped.__cause__ = ZeroDivisionError("by zero")
    assert report(stopped) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in err
    assert err.endswith("ramet: go on with: ramet resume /p/.ramet/r\n")


def test_messages_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An escape sequence in a file's name is shown, not obeyed."""
    assert report(BadInput("--dir", "no such directory: \x1b[2J")) == 2
    assert "\x1b" not in capsys.readouterr().err
