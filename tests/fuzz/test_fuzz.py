"""A little of each target in every test run; `python -m tests.fuzz` does the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.engine.base import EngineError
from runtime.engine.sglang import _read
from runtime.rollouts.schema import RolloutCorrupt, read_rollouts
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS, read_journal, read_letter


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_raises(name: str) -> None:
    """A hundred inputs, other ones for each target, are taken or refused in words (ten where each takes longer)."""
    count = 100 if name != "model settings" else 10
    tried, finding = fuzz(name, count, seed=len(name))
    assert not finding, finding
    assert tried >= min(count, 9)


@pytest.mark.parametrize(
    ("target", "data"),
    [
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
        _read("http://127.0.0.1", data)


def test_a_file_of_rollouts_that_is_not_text(tmp_path: Path) -> None:
    """It is named with its line."""
    (tmp_path / "r.jsonl").write_bytes(b'{"record": "rollout", "id": "\x80"}\n')
    with pytest.raises(RolloutCorrupt, match=r"r\.jsonl:1: not a record"):
        next(read_rollouts(tmp_path / "r.jsonl"))
