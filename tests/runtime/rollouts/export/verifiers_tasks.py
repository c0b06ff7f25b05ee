"""A taskset of one task, as a plug-in of verifiers. Imported only where verifiers is installed."""

from __future__ import annotations

from collections.abc import Iterable

import verifiers.v1 as vf

__all__ = ["Answers"]


class Asked(vf.TaskData):
    answer: str = ""


class Question(vf.Task[Asked]):
    pass


class Answers(vf.Taskset[Question, vf.TasksetConfig]):
    def load(self) -> Iterable[Question]:
        yield Question(Asked(prompt="do it", answer="right"))
