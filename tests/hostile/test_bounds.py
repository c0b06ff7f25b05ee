"""Answers that would be huge, and searches that would take all memory, are bounded and say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.ground import bounded
from workspace import FileRefused, FileTree
from workspace.files import LIST_CHARS


def test_long_paths_do_not_make_a_long_listing(tmp_path: Path) -> None:
    """A thousand files with paths of two thousand letters are listed, and searched, as far as there is room."""
    deep = tmp_path
    for _ in range(8):
        deep = deep / ("d" * 240)
        deep.mkdir()
    for number in range(400):
        (deep / f"{number}").write_text("found\n")
    tree = FileTree(tmp_path)
    with bounded(0):
        listing, found = tree.list(), tree.search("found")
    assert sum(map(len, listing.paths)) <= LIST_CHARS
    assert len(listing.paths) + listing.more == 400
    assert "more files" in listing.note
    assert 0 < sum(map(len, found.lines)) <= LIST_CHARS
    assert "narrow the pattern" in found.note


def test_a_pattern_that_takes_all_memory_is_no_empty_answer(tmp_path: Path) -> None:
    """A search whose process runs out of memory is an error that says so, and not "no matches"."""
    (tmp_path / "line.txt").write_text("ab" * 4_000_000 + "\n")
    with bounded(5), pytest.raises(FileRefused, match="too much memory"):
        FileTree(tmp_path).search("(?:(a)|(b))*c", deadline_s=60)


def test_contents_of_a_models_take_no_rights_over(tmp_path: Path) -> None:
    """Replacing a file that runs as its owner keeps its permissions, and takes that right away."""
    path = tmp_path / "tool"
    path.write_text("trusted\n")
    path.chmod(0o4755)
    FileTree(tmp_path).write("tool", "forged\n")
    assert path.stat().st_mode & 0o7777 == 0o755
