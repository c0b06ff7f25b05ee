"""Runs one target over many inputs, in batches: hypothesis remembers the inputs of one, and slows down with them."""

from __future__ import annotations

import traceback

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS

__all__ = ["fuzz"]

BATCH = 2_000


def fuzz(name: str, count: int, *, seed: int) -> tuple[int, str]:
    """Try at least `count` inputs, or until one raises. Returns how many were tried, and the finding or ""."""
    tried = 0
    while tried < count:
        before = tried
        made, finding = _batch(name, min(BATCH, count - tried), seed * 1_000_003 + tried)
        tried += made
        if finding or tried == before:
            return tried, finding
    return tried, ""


def _batch(name: str, count: int, number: int) -> tuple[int, str]:
    (inputs, run, *_), _ = TARGETS[name]
    tried = 0

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def try_all(value: object) -> None:
        nonlocal tried
        tried += 1
        run(value)

    try:
        try_all()
    except Exception as error:  # a finding, whatever it is
        return tried, "".join(traceback.format_exception(error))[-2000:]
    return tried, ""
