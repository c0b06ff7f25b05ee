"""A little of each target in every test run; `python -m tests.fuzz` does the rest."""

from __future__ import annotations

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_raises(name: str) -> None:
    """A hundred inputs, other ones for each target, are taken or refused in words (ten where each takes longer)."""
    count = 100 if name != "model settings" else 10
    tried, finding = fuzz(name, count, seed=len(name))
    assert not finding, finding
    assert tried >= min(count, 9)
