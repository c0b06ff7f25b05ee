"""What a watcher is, and what it counts time by.

Owns the steps of a series: `info["step"]` where the collector wrote one, else the weights that sampled a rollout, in
the order in which they first come. Memory is that of the steps, never of the rollouts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from runtime.rollouts.audit.finding import Row
from runtime.rollouts.audit.transcript import Transcript
from runtime.rollouts.schema import Head

__all__ = ["Watcher", "by_step", "step_of", "window"]

LEAST_STEPS = 4  # below this a series has no beginning and end to compare


class Watcher(Protocol):
    """Sees every rollout once, and says at the end what it made of the series."""

    def __init__(self) -> None: ...
    def observe(self, transcript: Transcript) -> None:
        """One rollout of the series."""
        ...

    def rows(self) -> Iterable[Row]:
        """What was wrong with it."""
        ...


def step_of(transcript: Transcript) -> str:
    """The step that a rollout belongs to."""
    head: Head = transcript.head
    if step := head.info.get("step"):
        return step
    versions = [version.version for edge in transcript.edges.values() for version in edge.versions]
    return max(versions, key=_order, default="")


def by_step(steps: Iterable[str]) -> list[str]:
    """In the order of training: by number where they are numbers, else as they came."""
    steps = list(steps)
    return sorted(steps, key=_order) if all(step.isdecimal() for step in steps) else steps


def window(steps: int) -> int:
    """How many steps make the beginning of a series of so many, and its end."""
    return max(1, steps // 4)


def _order(step: str) -> tuple[int, str]:
    return (int(step) if step.isdecimal() else -1, step)
