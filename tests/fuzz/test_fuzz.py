"""A little of each target in every test run, of parsers by coverage too; `python -m tests.fuzz` does the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.engine._wire import read_reply
from runtime.engine.base import EngineError
from runtime.rollouts.schema import RolloutCorrupt, read_rollouts
from tests.fuzz.__main__ import main
from tests.fuzz.guided import guide, missing
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS, read_journal, read_letter


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_raises(name: str) -> None:
    """A hundred inputs, other ones for each target, are taken or refused in words (ten where each takes longer)."""
    count = 100 if name != "model settings" else 10
    tried, finding = fuzz(name, count, seed=len(name))
    assert not finding, finding
    assert tried >= min(count, 9)


@pytest.mark.skipif(bool(missing()), reason=missing() or "it is here")
@pytest.mark.parametrize("name", ["turns", "arguments", "letters", "journals", "task files"])
def test_nothing_raises_where_coverage_leads(name: str, tmp_path: Path) -> None:
    """A thousand inputs of a parser, or what three seconds give, mutated towards new branches: none raises."""
    done = guide(name, tmp_path, inputs=1_000, seconds=3, seed=len(name))
    assert not done.finding, done.finding
    assert done.inputs > 0
    assert done.edges[1] >= done.edges[0] > 0


@pytest.mark.skipif(bool(missing()), reason=missing() or "it is here")
def test_a_hole_is_found_saved_and_found_again(tmp_path: Path) -> None:
    """Guided fuzzing finds what no generator makes; the input that it saves raises the same when it is replayed."""
    done = guide("hole", tmp_path, inputs=2_000_000, seconds=60)
    assert "ZeroDivisionError: the hole" in done.finding
    assert Path(done.saved).read_bytes().startswith(b"hole")
    with pytest.raises(ZeroDivisionError, match="the hole"):
        main(["--replay", done.saved])


def test_what_cannot_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there, or whose target nobody knows, is named."""
    for file in (tmp_path / "letters" / "gone", tmp_path / "other" / "gone"):
        assert main(["--replay", str(file)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"{file}: ")
        assert said.count("\n") == 1


@pytest.mark.skipif(not missing(), reason="atheris is installed")
def test_without_atheris(capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what is missing."""
    assert main(["--guided", "--inputs", "10"]) == 2
    assert capsys.readouterr().err == missing() + "\n"


@pytest.mark.parametrize(
    ("target", "data"),
    [
        (read_letter, b"From: a\nSubject: =?utf-8\xff?q?x?=\n\nx"),
        (read_letter, b"From: a\nContent-Type: text/plain; charset*0=a; charset*=b\n\nx"),
        (read_letter, b"From: a\nContent-Type: multipart/mixed; boundary*0=a; boundary*=b\n\nx"),
        (read_letter, b"Content-Type: text/plain; charset=\x00From: a1@20261124-081501-k3f9\n\n\x80"),
        (read_journal, b'{"record":"\x80"}\n'),
    ],
)
def test_what_once_raised(target: Callable[[bytes], None], data: bytes) -> None:
    """What long runs found stays closed."""
    target(data)


NOT_UTF_8 = b'{"output_ids": [], "meta_info": {"finish_reason": {"type": "\x80"}}}'


@pytest.mark.parametrize("data", [NOT_UTF_8, b"[" * 100_000])
def test_a_reply_that_is_not_json(data: bytes) -> None:
    """Whatever a server, or what is between us, sends: it is the engine that has failed."""
    with pytest.raises(EngineError):
        read_reply("http://127.0.0.1", data)


def test_a_file_of_rollouts_that_is_not_text(tmp_path: Path) -> None:
    """It is named with its line."""
    (tmp_path / "r.jsonl").write_bytes(b'{"record": "rollout", "id": "\x80"}\n')
    with pytest.raises(RolloutCorrupt, match=r"r\.jsonl:1: not a record"):
        next(read_rollouts(tmp_path / "r.jsonl"))
