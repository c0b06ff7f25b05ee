"""Bad input from a person: one clear line, exit code 2, nothing changed."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest

from runtime.cli import _main as main
from tests.runtime.cli.conftest import ROOT, Ramet
from tests.runtime.cli.server import ScriptedServer


def refused(ended: CompletedProcess[str], *words: str) -> None:
    """One line on standard error with all of `words`, and exit code 2."""
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    names(ended.stderr, *words)


def names(stderr: str, *words: str) -> None:
    """It is one line, and has all of `words`."""
    (line,) = stderr.splitlines()
    assert line.startswith("ramet: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["TASK"]),
        (["run", ""], ["TASK", "empty"]),
        (["run", "missing.md"], ["TASK", "no such file", "missing.md"]),
        (["run", "."], ["TASK", "directory"]),
        (["run", "binary.dat"], ["binary.dat", "UTF-8", "byte 3"]),
        (["run", "empty.txt"], ["empty.txt", "empty"]),
        (["run", "do it", "--dir", "nowhere"], ["--dir", "nowhere"]),
        (["run", "do it", "--dir", "empty.txt"], ["--dir", "not a directory"]),
        (["run", "do it", "--url", "localhost:1"], ["--url", "localhost:1"]),
        (["run", "do it", "--url", "http://h", "--model", "m"], ["--model", "--url"]),
        (["run", "do it", "--model", "./no-model"], ["no-model"]),
        (["run", "do it", "--model", "."], ["config.json"]),
        (["run", "do it", "--budget", "tokens=5"], ["--budget", "'tokens'", "sampled_tokens"]),
        (["run", "do it", "--budget", "turns"], ["--budget", "turns"]),
        (["run", "do it", "--budget", "turns=many"], ["--budget", "turns", "'many'"]),
        (["run", "do it", "--budget", "turns=-1"], ["--budget", "turns", "-1"]),
        (["run", "do it", "--budget", "turns=1,turns=2"], ["--budget", "twice"]),
        (["run", "do it", "--budget", "depth=none"], ["--budget", "depth"]),
        (["run", "do it", "--limit", "disk=5"], ["--limit", "'disk'", "memory", "tmp"]),
        (["run", "do it", "--limit", "cpu"], ["--limit", "cpu"]),
        (["run", "do it", "--limit", "memory=many"], ["--limit", "memory", "4G", "'many'"]),
        (["run", "do it", "--limit", "cpu=5M"], ["--limit", "cpu", "seconds", "'5M'"]),
        (["run", "do it", "--limit", "file=-1"], ["--limit", "file", "'-1'"]),
        (["run", "do it", "--limit", "tmp=0"], ["--limit", "tmp", "at least 1"]),
        (["run", "do it", "--limit", "memory=4"], ["--limit", "memory", "at least"]),
        (["run", "do it", "--limit", "tmp=99999999999G"], ["--limit", "tmp", "at most"]),
        (["run", "do it", "--limit", "cpu=1,cpu=2"], ["--limit", "twice"]),
        (["rollout", "story:survey", "--out", "o", "--limit", "disk=5"], ["--limit", "'disk'"]),
        (["run", "do it", "--temperature", "-1"], ["--temperature"]),
        (["run", "do it", "--turn-tokens", "x"], ["--turn-tokens"]),
        (["run", "do it", "--nonsense"], ["--nonsense"]),
        (["nonsense"], ["nonsense"]),
        (["resume"], ["no run in"]),
        (["resume", "nowhere"], ["nowhere"]),
        (["tree", "empty.txt"], ["empty.txt"]),
        (["stats"], ["no run in"]),
    ],
)
def test_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    """The line names the field or file and what is wrong with it; the exit code is 2; no file has been made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary.dat").write_bytes(b"ab\xff")
    (tmp_path / "empty.txt").touch()
    assert main.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    names(err, *words)
    assert {path.name for path in tmp_path.iterdir()} == {"binary.dat", "empty.txt"}


def test_a_journal_that_is_not_ours(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """A corrupt line is named by file and number, for every command that reads it."""
    ramet("run", "add up", "--dir", project, "--url", server.url)
    (journal,) = project.glob(".ramet/*/journal.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b'{"record": "nothing"}\n', *lines[2:]]))
    for command in ("tree", "stats", "resume"):
        refused(ramet(command, project), f"{journal}:3")


def test_a_model_whose_tokenizer_is_not_here(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """A server that names a model unknown on this machine is refused before anything is written."""
    server.model = str(project)
    refused(ramet("run", "add up", "--dir", project, "--url", server.url), "tokenizer")
    assert not (project / ".ramet").exists()


def test_a_dead_server_is_a_failure(ramet: Ramet, project: Path) -> None:
    """No server at the address: exit 1, the line names the address, nothing is written."""
    ended = ramet("run", "add up", "--dir", project, "--url", "http://127.0.0.1:9")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "http://127.0.0.1:9" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (project / ".ramet").exists()


def test_help_imports_nothing_heavy() -> None:
    """`ramet --help` is quick: the commands' own imports happen when they run."""
    heavy = ["httpx", "rich", "renderers", "structlog", "tokenizers", "anyio", "asyncio"]
    code = f"import sys; from runtime.cli._app import app; print([m for m in {heavy} if m in sys.modules])"
    said = run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_no_command_is_a_request_for_help(ramet: Ramet) -> None:
    """`ramet` alone prints its help."""
    ended = ramet()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "resume" in ended.stdout
