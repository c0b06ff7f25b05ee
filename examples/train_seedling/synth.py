"""Surveys played by the teacher without a harness: the same tokens, two hundred times faster.

Owns a sketch of what the harness writes into contexts, for making rows in bulk. Invariant: for the same survey and
numbering, the sketch's contexts equal the real harness's token for token; `tests/examples` plays both and compares.
Knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from agents.context import Origin, Segment
from agents.told import copy_text, status_line
from agents.tools.calc import calculate
from examples.train_seedling.teachers import decide
from runtime.demo import Kind, Survey

_BEGIN = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
_EXTEND = "\n<|im_start|>user\n<tool_response>\n{text}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """What varies from run to run beside the survey: the first agent's number and the budget's percentages."""

    first: int = 1
    context_tokens: int = 4096
    budget: tuple[int, int] = (100, 100)  # at the start and at the end

    @classmethod
    def draw(cls, random: Random) -> Numbering:
        first = 1 if random.random() < 0.8 else random.randint(2, 300)
        start = random.choice((100, 100, 100, random.randint(30, 100)))
        context = random.choice((4096, 4096, 4096, 2048, 8192, 16384, 32768))
        return cls(
            first=first,
            context_tokens=context,
            budget=(start, start if random.random() < 0.5 else random.randint(5, start)),
        )


def play(
    survey: Survey, system: str, encode: Callable[[str], list[int]], numbering: Numbering | None = None
) -> list[Segment]:
    """The heads of the finished contexts: the parent's first, then each copy's in the order of their tasks."""
    return _Play(survey, system, encode, numbering or Numbering()).heads()


class _Play:
    def __init__(self, survey: Survey, system: str, encode: Callable[[str], list[int]], numbering: Numbering) -> None:
        self._survey, self._system, self._encode, self._numbering = survey, system, encode, numbering
        self._segments = 0

    def heads(self) -> list[Segment]:
        survey, first = self._survey, self._numbering.first
        text = survey.question + "\n" + self._status(first, None)
        parent = self._turn(self._add(None, _BEGIN.format(system=self._system, text=text), Origin.GIVEN))
        forked = self._turn(self._tell(parent, first, "\n".join(survey.files)))
        copies, results = [], []
        for k, (path, content) in enumerate(survey.files.items(), 1):
            me = first + k
            copy = self._tell(forked, me, copy_text(k, len(survey.files), path))
            copy = self._turn(self._tell(self._turn(copy), me, content.removesuffix("\n")))
            copies.append(copy)
            results.append(f"a{me}: {survey.key}: {survey.figures[path]} {path}")
        calculated = self._turn(self._tell(forked, first, "\n".join(results)))
        figures = [str(figure) for figure in survey.figures.values()]
        value = calculate(_expression(self._text(calculated)), lambda _: figures)
        if survey.kind not in (Kind.SUM, Kind.COUNT):
            whose = [line for line, figure in zip(results, figures, strict=True) if figure == value]
            value = "\n".join([value, *whose])
        return [self._turn(self._tell(calculated, first, value)), *copies]

    def _turn(self, head: Segment) -> Segment:
        return self._add(head, decide(self._text(head)) + "<|im_end|>", Origin.SAMPLED)

    def _tell(self, head: Segment, agent: int, text: str) -> Segment:
        return self._add(head, _EXTEND.format(text=f"{text}\n{self._status(agent, head)}"), Origin.GIVEN)

    def _add(self, head: Segment | None, text: str, origin: Origin) -> Segment:
        self._segments += 1
        segment = _Written(self._segments, head, origin, self._encode(text))
        segment.text = text
        return segment

    def _text(self, head: Segment) -> str:
        return "".join(s.text for s in reversed(list(head.path())) if isinstance(s, _Written))

    def _status(self, agent: int, head: Segment | None) -> str:
        start, end = self._numbering.budget
        turn = head.turn if head else 0
        used = head.length if head else 0
        left = (start + (end - start) * turn // 4) / 100
        return status_line(f"a{agent}", turn, used, self._numbering.context_tokens, left)


class _Written(Segment):
    """A segment that remembers its text, so that the teacher need not decode a whole context each turn."""

    __slots__ = ("text",)
    text: str


def _expression(text: str) -> str:
    return text.rpartition('"expression": "')[2].partition('"')[0]
