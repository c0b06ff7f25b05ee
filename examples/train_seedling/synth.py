"""Stories played by the teachers without a harness: the same tokens, two hundred times faster.

Owns a sketch of what the harness writes into contexts, for making rows in bulk. Invariant: for the same story and
numbering, the sketch's contexts equal the real harness's token for token; `tests/examples` plays both and compares.
Knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from agents.context import Origin, Segment
from agents.host import Agent
from agents.told import (
    copy_text,
    host_text,
    interview_note,
    newcomer_text,
    review_text,
    revise_text,
    rewind_text,
    status_line,
)
from agents.tools.calc import calculate
from examples.train_seedling.teachers import BRIEF, WHICH, decide
from runtime.demo import Kind, Story, Survey
from workspace import RunLayout

_BEGIN = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
_EXTEND = "\n<|im_start|>user\n<tool_response>\n{text}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
_BACK = "<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """What varies from run to run beside the story: the first agent's number, the budget's percentages, the run."""

    first: int = 1
    context_tokens: int = 4096
    budget: tuple[int, int] = (100, 100)  # at the start and at the end
    run: str = "20261124-120000-a1b2"

    @classmethod
    def draw(cls, random: Random) -> Numbering:
        first = 1 if random.random() < 0.8 else random.randint(2, 300)
        start = random.choice((100, 100, 100, random.randint(30, 100)))
        context = random.choice((4096, 4096, 4096, 2048, 8192, 16384, 32768))
        end = start if random.random() < 0.5 else random.randint(5, start)
        return cls(first=first, context_tokens=context, budget=(start, end), run=draw_run(random))


def draw_run(random: Random) -> str:
    """A run's name."""
    day = f"20{random.randint(25, 35)}{random.randint(1, 12):02}{random.randint(1, 28):02}"
    time = f"{random.randint(0, 23):02}{random.randint(0, 59):02}{random.randint(0, 59):02}"
    return f"{day}-{time}-{''.join(random.choices('abcdefghijklmnopqrstuvwxyz0123456789', k=4))}"


def play(
    story: Survey, system: str, encode: Callable[[str], list[int]], numbering: Numbering | None = None
) -> list[list[Segment]]:
    """The heads of all contexts, in groups that share a beginning; in each, the one first that others branch off."""
    return _Play(story, system, encode, numbering or Numbering()).groups()


class _Play:
    def __init__(self, story: Survey, system: str, encode: Callable[[str], list[int]], numbering: Numbering) -> None:
        self._story, self._system, self._encode, self._numbering = story, system, encode, numbering
        self._layout = RunLayout(Path("/"), numbering.run)
        self._segments = 0

    def groups(self) -> list[list[Segment]]:
        first = self._numbering.first
        asked = self._begin(first, self._story.question)
        match self._story.story:
            case Story.SURVEY:
                return [self._survey(asked, first)]
            case Story.DETOUR:
                return self._detour(asked, first)
            case Story.ONBOARDING:
                return self._onboarding(asked, first)
            case Story.REVIEW:
                return self._review(asked, first)

    # -- stories --------------------------------------------------------------------------------------------

    def _survey(self, asked: Segment, me: int) -> list[Segment]:
        forked = self._turn(self._tell(self._turn(asked), me, "\n".join(self._story.files)))
        return [self._end(forked, me, "\n".join(self._results(me + 1))), *self._copies(forked, me + 1)]

    def _detour(self, asked: Segment, me: int) -> list[list[Segment]]:
        at = self._turn(asked)
        for text in self._story.trail.values():
            at = self._turn(self._tell(at, me, text.removesuffix("\n")))
        report = self._said(at).partition('"report": "')[2].partition('"')[0]
        agent = Agent(id=f"a{me}", parent=None, task="", depth=0, base=asked, head=at)
        told = f"{rewind_text(agent, 0, report, [], [], [])}\n{self._status(me, asked)}"
        back = self._add(asked, _BACK.format(text=told), Origin.GIVEN)
        return [[at], self._survey(back, me)]

    def _onboarding(self, asked: Segment, me: int) -> list[list[Segment]]:
        paths, layout = list(self._story.files), self._layout
        spawned = self._turn(self._tell(self._turn(asked), me, "\n".join(paths)))
        new, host, copy = me + 1, me + 2, me + 3
        readable = [layout.relative(p) for p in (layout.task, layout.prompt(f"a{me}"), layout.history(f"a{me}"))]
        asks = self._turn(self._begin(new, newcomer_text(f"a{me}", BRIEF, paths, readable, questions=True)))
        hosted = self._turn(self._tell(spawned, host, host_text(f"a{new}", "; ".join(paths), [WHICH])))
        begun = self._turn(self._tell(asks, new, self._story.key))
        told = [*self._results(copy), interview_note(layout.relative(layout.interview(f"a{new}")))]
        return [[self._end(spawned, me, "\n".join(told)), hosted], self._copies(begun, copy)]

    def _review(self, asked: Segment, me: int) -> list[list[Segment]]:
        ((path, text),) = ((path, text) for path, text in self._story.files.items() if path in self._story.figures)
        now = self._story.corrected.get(path, text)
        author = self._turn(self._tell(self._turn(asked), me, text.removesuffix("\n")))
        reviews = [self._reviewed(me + 1, self._said(author), now)]
        if self._story.corrected:
            comments = self._said(reviews[0][0]).partition('"comments": "')[2].partition('"')[0]
            again = self._turn(self._tell(author, me, f"error: {revise_text(f'a{me + 1}', comments)}"))
            author = self._turn(self._tell(again, me, now.removesuffix("\n")))
            reviews.append(self._reviewed(me + 2, self._said(author), now))
        return [[author], *reviews]

    def _reviewed(self, me: int, said: str, text: str) -> list[Segment]:
        result = said.partition('"result": "')[2].partition('"')[0]
        task = self._layout.relative(self._layout.task)
        at = self._turn(self._begin(me, review_text(task, self._story.question, result)))
        at = self._turn(self._tell(at, me, text.removesuffix("\n")))
        wanted = self._said(at).partition('"expression": "')[2].partition('"')[0]
        return [self._turn(self._tell(at, me, calculate(wanted, lambda _: None)))]

    # -- parts of them --------------------------------------------------------------------------------------

    def _copies(self, head: Segment, first: int) -> list[Segment]:
        """The heads of copies, one a file, of whoever is at `head`."""
        copies = []
        for number, (path, text) in enumerate(self._story.files.items()):
            copy = self._tell(head, first + number, copy_text(number + 1, len(self._story.files), path))
            copies.append(self._turn(self._tell(self._turn(copy), first + number, text.removesuffix("\n"))))
        return copies

    def _results(self, first: int) -> list[str]:
        story = self._story
        return [f"a{n}: {story.key}: {figure} {path}" for n, (path, figure) in enumerate(story.figures.items(), first)]

    def _end(self, head: Segment, me: int, told: str) -> Segment:
        """Calculates from the results it is told, and finishes."""
        calculated = self._turn(self._tell(head, me, told))
        figures = [str(figure) for figure in self._story.figures.values()]
        wanted = self._said(calculated).partition('"expression": "')[2].partition('"')[0]
        value = calculate(wanted, lambda _: figures)
        if self._story.kind not in (Kind.SUM, Kind.COUNT):
            lines = told.split("\n")
            value = "\n".join([value, *(line for line, f in zip(lines, figures, strict=False) if f == value)])
        return self._turn(self._tell(calculated, me, value))

    # -- tokens ---------------------------------------------------------------------------------------------

    def _begin(self, agent: int, text: str) -> Segment:
        told = f"{text}\n{self._status(agent, None)}"
        return self._add(None, _BEGIN.format(system=self._system, text=told), Origin.GIVEN)

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

    @staticmethod
    def _said(head: Segment) -> str:
        return head.text if isinstance(head, _Written) else ""

    def _status(self, agent: int, head: Segment | None) -> str:
        start, end = self._numbering.budget
        turn = head.turn if head else 0
        used = head.length if head else 0
        left = (start + (end - start) * turn // 4) / 100
        return status_line(f"a{agent}", turn, used, self._numbering.context_tokens, left)


class _Written(Segment):
    """A segment that remembers its text, so that the teachers need not decode a whole context each turn."""

    __slots__ = ("text",)
    text: str
