"""The README says what is true: its commands can be given, its code runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.engine.scripted import ScriptedEngine
from runtime.engine.sglang import SGLang
from tests.support import ledgers, scripted, survey

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of one language ("" for plain ones)."""
    pieces = re.split(r"^```(.*)\n", README, flags=re.MULTILINE)  # text, fence, block, closing fence, text ...
    return [block for fence, block in zip(pieces[1::4], pieces[2::4], strict=True) if fence == language]


def commands(program: str) -> list[list[str]]:
    """The words of every command line that calls `program`."""
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith(f"{program} ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_every_command_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `ramet` command of the README exists and takes the options that it is shown with."""
    from typer.main import get_command

    from runtime.cli._app import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    given = commands("ramet")
    assert len(given) >= 5
    for words in given:
        command = get_command(app)
        context = command.make_context("ramet", list(words), resilient_parsing=True)
        while hasattr(command, "resolve_command"):
            name, command, words = command.resolve_command(context, list(words))
            context = command.make_context(
                name, list(words), parent=context, resilient_parsing=hasattr(command, "commands")
            )


def test_every_make_target_exists() -> None:
    """Each `make` command of the README is a target of the Makefile."""
    targets = re.findall(r"^(\w+):", (Path(__file__).parent.parent / "Makefile").read_text(), re.MULTILINE)
    for words in commands("make"):
        assert words[0] in targets


def test_every_link_leads_somewhere() -> None:
    """Relative links name files of the repository."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (Path(__file__).parent.parent / target).exists(), target


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python example runs and prints the answer; its engine is the scripted one, told by a teacher what to say."""
    (tmp_path / "work").mkdir()
    ledgers(tmp_path / "work", [12, 30])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SGLang, "local", local)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "42"
    assert "recompute_ratio=" in said


@asynccontextmanager
async def local(model: str) -> AsyncIterator[ScriptedEngine]:
    """An engine that needs no weights."""
    yield scripted(survey)
