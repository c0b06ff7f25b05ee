"""What a collection came to."""

from __future__ import annotations

from itertools import permutations
from random import Random

from runtime.rollouts.schema import Rollout
from runtime.rollouts.summary import Summary
from tests.runtime.rollouts.trees import Growing


def attempt(name: str, score: float | None = None) -> Rollout:
    """One agent, with one term or with none."""
    growing = Growing(name, rng=Random(0))
    if score is not None:
        growing.earn("a0", score)
    return growing.done()


def figures(*rollouts: Rollout) -> dict[str, object]:
    """Of what they come to, what depends on rewards."""
    summary = Summary()
    for rollout in rollouts:
        summary.add(rollout)
    return {key: summary.figures()[key] for key in ("unscored", "mean_reward", "dead_groups")}


def test_nothing_was_graded() -> None:
    """A group without any term has no reward and is not dead."""
    assert figures(attempt("r0"), attempt("r1")) == {"unscored": 2, "mean_reward": {"g": None}, "dead_groups": []}


def test_a_sum_of_nothing_is_zero() -> None:
    """Where one attempt has a term the others earned 0, as credit has it, in whatever order they come."""
    bare, penalised = attempt("r0"), attempt("r1", -1.0)
    for three in permutations([bare, bare, penalised]):
        assert figures(*three) == {"unscored": 0, "mean_reward": {"g": -0.333333}, "dead_groups": []}
    dead = {"unscored": 0, "mean_reward": {"g": 0.0}, "dead_groups": ["g"]}
    assert figures(bare, attempt("r1", 0.0)) == figures(attempt("r1", 0.0), bare) == dead
