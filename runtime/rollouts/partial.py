"""Partial-input baselines: the same tasks with something left out that it takes to do them.

Owns what a task is without it, and what a collection says of such attempts. Which inputs there are, and when a task
leaks, is the audit's (`audit.series.partial`). Invariants: attempts at a part are groups of their own and are dropped
from training; nothing of the task but its prompt, its files, its tools and who looks after it is changed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import cast

from msgspec import structs

from agents.tools.finish import Finish
from runtime.rollouts.audit.reward import scored
from runtime.rollouts.audit.series.partial import PartialInputs, partial_inputs
from runtime.rollouts.audit.transcript import Transcript
from runtime.rollouts.schema import Rollout
from runtime.rollouts.tasks import Task

__all__ = ["INPUT", "Leaks", "partial_tasks"]

INPUT = "input"  # a key of `Head.info`: which part of its input an attempt was given


def partial_tasks(task: Task) -> list[Task]:
    """The task with its question only, without tools, and with its last sentence only.

    Without tools there is nothing to review and nobody to write to, so neither a reviewer, a check nor a user.
    """
    return [
        structs.replace(
            task,
            prompt=part.prompt,
            files=task.files if part.files else {},
            directory=task.directory if part.files else None,
            group=f"{task.group or task.id}@{part.input}",
            settings={**task.settings, "review": False, "check": ""},
            user="",
            observe=task.observe if part.files else None,
            info={**task.info, **part.info},
            tools=None if part.tools else (Finish.name,),
            dropped=f"a partial input: {part.input}",
        )
        for part in partial_inputs(task.prompt)
    ]


class Leaks:
    """Counts attempts at parts beside those at the whole."""

    def __init__(self) -> None:
        self._inputs = PartialInputs()
        self._scores: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, rollout: Rollout) -> None:
        """Count one."""
        self._inputs.observe(cast(Transcript, rollout))  # which looks at its `head` and at nothing else
        score = scored(rollout.head)
        if score is not None and INPUT in rollout.head.info:
            self._scores[rollout.head.info[INPUT]].append(score)

    def figures(self) -> dict[str, object] | None:
        """What each input came to, as a share of what its rewards allow, and a line for each task and input that leaks;
        None where no part was attempted."""
        if not self._scores:
            return None
        means = {name: round(math.fsum(got) / len(got), 6) for name, got in sorted(self._scores.items())}
        return {"mean_score": means, "leaks": [row.quote for row in self._inputs.rows()]}
