"""Partial-input baselines: a task whose rollouts score without what it takes to do it leaks its answer.

Owns which inputs are partial, how a prompt is made so (pure), and the count of those that scored. Rollouts say what
they were given by `info["input"]`; those without were given everything. Memory is that of the tasks.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from math import sqrt

import msgspec

from runtime.rollouts.audit.finding import Row, Severity
from runtime.rollouts.audit.reward import scored
from runtime.rollouts.audit.transcript import Transcript

__all__ = ["Input", "Partial", "PartialInputs", "partial_inputs", "wilson"]

_SCORES = 0.5  # the share of the most there is from which on a rollout has scored
_CHANCE = 0.1  # how often guessing may score
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")


class Input(enum.StrEnum):
    """What a rollout was given of its task."""

    QUESTION = "question"
    NO_TOOLS = "no_tools"
    LAST_SENTENCE = "last_sentence"


class Partial(msgspec.Struct, frozen=True, kw_only=True):
    """A task's prompt with something left out; `info` is to be written into its rollouts' heads."""

    input: Input
    prompt: str
    tools: bool = False
    files: bool = False

    @property
    def info(self) -> dict[str, str]:
        return {"input": self.input.value}


def partial_inputs(prompt: str) -> tuple[Partial, ...]:
    """The question alone, the whole prompt without tools, and the last sentence alone.

    The question is the last sentence that asks, with the ones that ask right before it; in a prompt that asks nothing
    it is the first sentence, which says what is to be done.
    """
    sentences = [sentence.strip() for sentence in _SENTENCE.split(prompt) if sentence.strip()]
    if not sentences:
        return ()
    asking = [sentence.endswith("?") for sentence in sentences]
    if any(asking):
        stop = len(asking) - asking[::-1].index(True)
        start = stop - 1
        while start > 0 and asking[start - 1]:
            start -= 1
    else:
        start, stop = 0, 1
    return (
        Partial(input=Input.QUESTION, prompt=" ".join(sentences[start:stop])),
        Partial(input=Input.NO_TOOLS, prompt=prompt, files=True),
        Partial(input=Input.LAST_SENTENCE, prompt=sentences[-1]),
    )


class PartialInputs:
    """See the module. A row for every task and input where scoring is more than chance, and one for all tasks."""

    def __init__(self, chance: float = _CHANCE) -> None:
        self._chance = chance
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}  # task ("" for all), input: scored, all

    def observe(self, transcript: Transcript) -> None:
        """See Watcher."""
        head, reward = transcript.head, scored(transcript.head)
        if reward is None:
            return
        for task in (head.task, ""):
            key = (task, head.info.get("input", ""))
            right, all_ = self._counts.get(key, (0, 0))
            self._counts[key] = (right + (reward >= _SCORES), all_ + 1)

    def rows(self) -> Iterator[Row]:
        """See Watcher."""
        for (task, given), (right, all_) in sorted(self._counts.items()):
            if given not in set(Input) or wilson(right, all_) <= self._chance:
                continue
            whole = self._counts.get((task, ""))
            beside = f"; {whole[0]} of {whole[1]} with everything" if whole else ""
            quote = f"{task or 'all tasks'}: {right} of {all_} scored with {given.replace('_', ' ')} only{beside}"
            yield Row(class_=f"leak_{given}", severity=Severity.HIGH.name.lower(), quote=quote)


def wilson(right: int, all_: int, z: float = 1.96) -> float:
    """The lower end of Wilson's interval for a share (E. B. Wilson, 1927), by default the one of 95 %."""
    if all_ == 0:
        return 0.0
    share = right / all_
    middle = share + z * z / (2 * all_)
    return (middle - z * sqrt(share * (1 - share) / all_ + z * z / (4 * all_ * all_))) / (1 + z * z / all_)
