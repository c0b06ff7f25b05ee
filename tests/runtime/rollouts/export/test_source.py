"""Reading files: groups that lie mixed, in the memory of one, and what is broken told in a line and left out."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from random import Random

import pytest

from runtime.rollouts.export import export
from runtime.rollouts.schema import Rollout, read_rollouts, write_rollout
from tests.runtime.rollouts.export.made import alone, forking


def write(path: Path, found: list[Rollout]) -> Path:
    """A file of rollouts."""
    with path.open("wb") as file:
        for one in found:
            write_rollout(file, one)
    return path


def native(path: Path) -> tuple[list[str], list[str]]:
    """The names of what is exported, and what was complained of."""
    wrong: list[str] = []
    out = io.BytesIO()
    export(path, "native", out, complain=wrong.append)
    path.with_suffix(".out").write_bytes(out.getvalue())
    return [one.head.id for one in read_rollouts(path.with_suffix(".out"))], wrong


def test_groups_may_lie_mixed(tmp_path: Path) -> None:
    """Rollouts of several tasks in the order in which they ended come out task by task."""
    mixed = [alone("a0", 1.0, "a"), alone("b0", 1.0, "b"), alone("a1", 0.0, "a"), alone("b1", 0.0, "b")]
    assert native(write(tmp_path / "x.jsonl", mixed)) == (["a0", "a1", "b0", "b1"], [])


@pytest.mark.parametrize(
    ("line", "text", "left", "words"),
    [
        (1, b'{"record": "edge", "id"', ["b", "c"], ":2: not a record of a rollout"),
        (1, b'{"record":"edge","id":0,"parent":null,"agent":"a0","kind":"root","tokens":["x"]}', ["b", "c"], "tokens"),
        (2, b'{"record":"end","id":"a","edges":2}', ["b", "c"], ":3: edges: 2 were written, 1 are there"),
        (0, b'{"record":"edge"}', ["b", "c"], ":1: record: 'edge' is out of place"),
        (5, b"", ["a", "c"], ":7: record: the rollout that starts at line 4 was cut"),
        (8, b"", ["a", "b"], "the file ends within the rollout that starts at line 7"),
        (3, b'{"hello": "world"}', ["a", "c"], ":4: not a record of a rollout"),
    ],
)
def test_what_is_broken_costs_its_own_rollout(
    tmp_path: Path, line: int, text: bytes, left: list[str], words: str
) -> None:
    """One line says what is wrong and where, and the others are exported."""
    path = write(tmp_path / "x.jsonl", [alone("a", 1.0), alone("b", 0.0), alone("c", 0.5)])
    lines = path.read_bytes().splitlines()
    lines[line] = text
    path.write_bytes(b"\n".join(one for one in lines if one) + b"\n")
    if line == 5:  # the end of the second is gone: the third's head stands where it should be
        words = words.replace(":7:", ":6:")
    names, (problem,) = native(path)
    assert names == left
    assert words in problem
    assert str(path) in problem


def test_what_contradicts_itself_is_left_out(tmp_path: Path) -> None:
    """A rollout whose leaf is no edge is named, and the others are exported."""
    path = write(tmp_path / "x.jsonl", [alone("a", 1.0), alone("b", 0.0)])
    path.write_bytes(path.read_bytes().replace(b'"leaves":[{"edge":0', b'"leaves":[{"edge":9', 1))
    names, (problem,) = native(path)
    assert names == ["b"]
    assert "rollout 'a': leaf of a0: there is no edge 9" in problem


def test_a_file_of_something_else_is_told_of_once(tmp_path: Path) -> None:
    """However long it is."""
    path = tmp_path / "x.jsonl"
    path.write_text("not even JSON\n" * 1000)
    names, (problem,) = native(path)
    assert names == []
    assert ":1: not a record of a rollout" in problem


class Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def write(self, data: object) -> int:
        return len(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("to", ["slime", "verifiers", "atif"])
def test_memory_is_that_of_one_group(tmp_path: Path, to: str) -> None:
    """Eight times the file takes hardly more memory."""

    def peak(groups: int) -> int:
        path = tmp_path / f"{groups}.jsonl"
        with path.open("wb") as file:
            for number in range(2 * groups):
                name = f"g{number % groups}"
                random = Random(number)
                one = forking(f"{name}/{number}", 0.0, random, trunk=2000, branch=500, ways=3, group=name)
                write_rollout(file, one)
        tracemalloc.start()
        try:
            export(path, to, Nowhere(), complain=pytest.fail)  # type: ignore[arg-type]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is imported and cached once
    assert peak(16) < 1.3 * peak(2)
