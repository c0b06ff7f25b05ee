"""`ramet export`, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from runtime.rollouts.schema import Rollout, read_rollouts, write_rollout
from tests.runtime.cli.conftest import Ramet
from tests.runtime.rollouts.export.made import alone
from tests.runtime.rollouts.export.schemas import DOCUMENTED


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two attempts at a task, one of which succeeded."""
    return write(tmp_path / "rollouts.jsonl", [alone("t/0", 1.0), alone("t/1", 0.0)])


def write(path: Path, found: list[Rollout]) -> Path:
    """A file of rollouts."""
    with path.open("wb") as sink:
        for one in found:
            write_rollout(sink, one)
    return path


@pytest.mark.parametrize("to", DOCUMENTED)
def test_lines_go_to_standard_output(ramet: Ramet, file: Path, to: str) -> None:
    """Without --out, and nothing else does."""
    ended = ramet("export", file, "--to", to)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        msgspec.convert(json.loads(line), DOCUMENTED[to])


def test_a_file_is_written_whole(ramet: Ramet, file: Path, tmp_path: Path) -> None:
    """--out has the same rollouts, and nothing is left beside it."""
    out = tmp_path / "out.jsonl"
    ended = ramet("export", file, "--to", "native", "--out", out)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert list(read_rollouts(out)) == list(read_rollouts(file))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rollouts.jsonl"]


def test_a_tokenizer_gives_texts(ramet: Ramet, file: Path) -> None:
    """With one, what was sampled is there as text too."""
    from agents.tokenizer import load_tokenizer
    from runtime.engine.server import resolve_model

    line = json.loads(ramet("export", file, "--to", "slime", "--tokenizer", "seedling").stdout.splitlines()[0])
    assert line["response"] == load_tokenizer(resolve_model("seedling")).decode([4, 5])


def test_the_estimator_can_be_chosen(ramet: Ramet, file: Path) -> None:
    """`decision` has nothing to say where nobody forked: worth 0, where `segment` says one half."""
    worth = {}
    for credit in ("segment", "decision"):
        out = ramet("export", file, "--to", "slime", "--credit", credit).stdout
        worth[credit] = [json.loads(line)["reward"]["advantage"] for line in out.splitlines()]
    assert worth == {"segment": [0.5, -0.5], "decision": [0.0, 0.0]}


def test_who_makes_no_row_is_told(ramet: Ramet, tmp_path: Path) -> None:
    """A failed attempt is no bad input, and does not vanish silently either."""
    bad = alone("t/2", 0.0)
    bad = msgspec.structs.replace(bad, head=msgspec.structs.replace(bad.head, error="the engine is gone"))
    file = write(tmp_path / "x.jsonl", [alone("t/0", 1.0), alone("t/1", 0.0), bad])
    ended = ramet("export", file, "--to", "trl")
    assert ended.returncode == 0
    assert len(ended.stdout.splitlines()) == 2
    assert ended.stderr == "ramet: 1 of 3 rollouts make no row: error: the engine is gone\n"


def test_a_file_that_is_cut_costs_one_line_and_the_rest_goes_on(ramet: Ramet, file: Path) -> None:
    """The whole rollouts are exported; one line names file and line; the exit code is 2."""
    file.write_bytes(file.read_bytes()[:-60])
    ended = ramet("export", file, "--to", "native")
    assert ended.returncode == 2
    assert len(ended.stdout.splitlines()) == 3
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"ramet: {file}:")


@pytest.mark.parametrize("cut", [2, 30, 200])
def test_nothing_whole_in_a_file(ramet: Ramet, tmp_path: Path, cut: int) -> None:
    """Its only rollout is cut: one clear line and the exit code 2, on standard output nothing, and no --out."""
    file = write(tmp_path / "one.jsonl", [alone("t/0", 1.0)])
    file.write_bytes(file.read_bytes()[:-cut])
    for more in ([], ["--out", tmp_path / "out.jsonl"]):
        ended = ramet("export", file, "--to", "slime", *more)
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"ramet: {file}:")
        assert (ended.returncode, ended.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rollouts.jsonl"], "--to"),
        (["rollouts.jsonl", "--to", "yaml"], "--to: unknown 'yaml'; there are slime, verl"),
        (["rollouts.jsonl", "--to", "trl", "--credit", "luck"], "--credit: unknown 'luck'; there are segment"),
        (["missing.jsonl", "--to", "trl"], "FILE: no such file: missing.jsonl"),
        (
            ["rollouts.jsonl", "--to", "trl", "--out", "rollouts.jsonl"],
            "--out: rollouts.jsonl is the file that is read",
        ),
        (["rollouts.jsonl", "--to", "trl", "--out", "no/where.jsonl"], "--out: no/where.jsonl.part: No such file"),
        (["rollouts.jsonl", "--to", "trl", "--tokenizer", "./none"], "there is no model directory none"),
    ],
)
def test_bad_input_is_refused(ramet: Ramet, file: Path, arguments: list[str], words: str) -> None:
    """One line, exit code 2, nothing written."""
    before = file.read_bytes()
    ended = ramet("export", *arguments, cwd=file.parent)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert words in line
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
