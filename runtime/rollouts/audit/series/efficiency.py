"""Efficiency collapse: over training, rollouts become shorter and worse.

A reward for being brief can be had by not working. Compared are the best stretch of steps and the last: it is a
collapse where tokens or turns have shrunk by a third and the reward has fallen by more than chance explains (two
standard errors, Welch's).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import msgspec

from runtime.rollouts.audit.finding import Row, Severity
from runtime.rollouts.audit.reward import scored
from runtime.rollouts.audit.series.watcher import LEAST_STEPS, by_step, step_of, window
from runtime.rollouts.audit.transcript import Kind, Transcript

__all__ = ["EfficiencyCollapse"]

_SHRUNK = 2 / 3
_FALL = 0.05  # of the reward, as a share of the most there is: less is not worth a row
_ERRORS = 2.0


class _Sums(msgspec.Struct):
    """Of some rollouts."""

    count: int = 0
    tokens: int = 0
    turns: int = 0
    reward: float = 0.0
    squares: float = 0.0

    def add(self, other: _Sums) -> None:
        self.count += other.count
        self.tokens += other.tokens
        self.turns += other.turns
        self.reward += other.reward
        self.squares += other.squares

    @property
    def mean(self) -> float:
        return self.reward / self.count

    @property
    def error(self) -> float:
        """Of the mean, squared."""
        if self.count < 2:
            return 0.0
        variance = (self.squares - self.count * self.mean**2) / (self.count - 1)
        return max(variance, 0.0) / self.count


class EfficiencyCollapse:
    """See the module."""

    def __init__(self) -> None:
        self._steps: dict[str, _Sums] = {}

    def observe(self, transcript: Transcript) -> None:
        """See Watcher. Rollouts without a score say nothing."""
        reward = scored(transcript.head)
        if reward is None:
            return
        said = list(transcript.events(Kind.SAID))
        tokens = sum(event.span[1] - event.span[0] for event in said)
        one = _Sums(count=1, tokens=tokens, turns=len(said), reward=reward, squares=reward**2)
        self._steps.setdefault(step_of(transcript), _Sums()).add(one)

    def rows(self) -> Iterator[Row]:
        """See Watcher."""
        steps = by_step(self._steps)
        if len(steps) < LEAST_STEPS:
            return
        size = window(len(steps))
        stretches = [self._stretch(steps[at : at + size]) for at in range(len(steps) - size + 1)]
        last = stretches[-1]
        best_at = max(range(len(stretches) - 1), key=lambda at: stretches[at].mean)
        best = stretches[best_at]
        fall = best.mean - last.mean
        shrunk = min(last.tokens / last.count / (best.tokens / best.count or 1), _ratio(last, best))
        if shrunk <= _SHRUNK and fall >= _FALL and fall > _ERRORS * sqrt(best.error + last.error):
            quote = (
                f"from step {steps[best_at] or '-'} to {steps[-1] or '-'}: "
                f"tokens {best.tokens / best.count:.0f} to {last.tokens / last.count:.0f}, "
                f"turns {best.turns / best.count:.1f} to {last.turns / last.count:.1f}, "
                f"reward {best.mean:.2f} to {last.mean:.2f}"
            )
            yield Row(class_="efficiency_collapse", severity=Severity.HIGH.name.lower(), quote=quote)

    def _stretch(self, steps: list[str]) -> _Sums:
        total = _Sums()
        for step in steps:
            total.add(self._steps[step])
        return total


def _ratio(last: _Sums, best: _Sums) -> float:
    return last.turns / last.count / (best.turns / best.count or 1)
