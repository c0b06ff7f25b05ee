"""`ramet demo` without its model: a scripted server answers."""

from __future__ import annotations

import json
from pathlib import Path

from tests.runtime.cli.conftest import Ramet
from tests.runtime.cli.server import ScriptedServer

QUESTION = "What is the sum of total in ledgers?"


def test_a_right_answer(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """The answer is compared with what the command works out itself; right is exit code 0."""
    ended = ramet("demo", "--dir", project, "--question", QUESTION, "--url", server.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    last = json.loads(ended.stdout.splitlines()[-1])
    assert (last["event"], last["result"], last["truth"], last["right"]) == ("run_ended", "100", "100", True)
    assert last["stats"]["computed_tokens"] > 0
    assert Path(last["dir"]).is_dir()


def test_a_wrong_answer(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """A finished run with a wrong answer is exit code 1."""
    question = "What is the largest figure of total in ledgers?"
    ended = ramet("demo", "--dir", project, "--question", question, "--url", server.url)
    last = json.loads(ended.stdout.splitlines()[-1])
    assert (ended.returncode, last["result"], last["truth"], last["right"]) == (1, "100", "40", False)


def test_files_in_another_form(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """A file without its line, or a question that is not one, is bad input, named; nothing is written."""
    (project / "ledgers" / "l9.txt").write_text("nothing\n")
    ended = ramet("demo", "--dir", project, "--question", QUESTION, "--url", server.url)
    assert ended.returncode == 2
    assert "ledgers/l9.txt" in ended.stderr
    ended = ramet("demo", "--dir", project, "--question", "Why?", "--url", server.url)
    assert ended.returncode == 2
    assert "'Why?'" in ended.stderr
    ended = ramet("demo", "--dir", project, "--url", server.url)
    assert (ended.returncode, ended.stderr) == (2, "ramet: --question: is needed with --dir\n")
    assert not (project / ".ramet").exists()


def test_without_a_server_no_files_are_left(ramet: Ramet, tmp_path: Path) -> None:
    """The files made for a demo that never began are taken away again."""
    ended = ramet("demo", "--url", "http://127.0.0.1:9", TMPDIR=str(tmp_path))
    assert ended.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_story_that_is_none(ramet: Ramet, project: Path) -> None:
    """An unknown story, or one beside one's own files, is bad input, named."""
    ended = ramet("demo", "--story", "fable")
    assert (ended.returncode, ended.stderr) == (
        2,
        "ramet: --story: is one of survey, onboarding, detour, review, not 'fable'\n",
    )
    ended = ramet("demo", "--story", "detour", "--dir", project, "--question", QUESTION)
    assert (ended.returncode, ended.stderr.startswith("ramet: --story: ")) == (2, True)
