"""Surveys: a directory of text files, a question about one figure in each, and the one right answer.

Owns the documented form, the generator and the check:

- a survey's directory holds 2 to 12 text files, at any depth;
- in each file one line reads `<key>: <figure>` (a whole number, 0 to 9999), the others are anything else;
- the question names the key and the directory, in one of the wordings below.

Of one file the question may be as well. It may begin with `Let newcomers read.`, or with the file where a trail to the
key begins, which it then calls `it` (`runtime.demo.stories`).

Invariants: everything comes from the `Random` given, so one seed makes one survey; `answer` is what `truth`
says of `figures`; a training survey and a held-out one share no name, key, noise word or figure
(`runtime.demo.words`). Does not know agents, models or engines.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec

from runtime.demo.words import CALLED, Split, make_near, make_number, make_word

__all__ = [
    "Kind",
    "Question",
    "Split",
    "Story",
    "Survey",
    "SurveyError",
    "check",
    "make_survey",
    "read_figures",
    "read_question",
    "truth",
    "write_survey",
]

T = TypeVar("T")
MIN_FILES, MAX_FILES = 2, 12
FOLDER_LETTERS = 6  # of a made directory's name: what many paths begin with need not be long


class SurveyError(ValueError):
    """A directory or a question that has not the documented form; says which file and what is wrong."""


class Kind(enum.StrEnum):
    """What is asked of the figures."""

    SUM = "sum"
    LARGEST = "largest"
    SMALLEST = "smallest"
    COUNT = "count"
    WHICH_MOST = "which-most"
    WHICH_LEAST = "which-least"
    FIGURE = "figure"  # of one file


SURVEYED = tuple(kind for kind in Kind if kind is not Kind.FIGURE)


class Story(enum.StrEnum):
    """What a survey is a lesson in."""

    SURVEY = "survey"
    ONBOARDING = "onboarding"
    DETOUR = "detour"
    REVIEW = "review"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a question asks. `threshold` for `count` only; `trail` is the file where a trail to the key begins."""

    kind: Kind
    key: str
    directory: str
    threshold: int | None = None
    story: Story = Story.SURVEY
    trail: str = ""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """One survey. `files` and `figures` by path relative to the working directory, sorted by path.

    `trail` are the files that lead to the key, in order; `corrected` is what a file becomes once it has been read.
    """

    question: str
    directory: str
    files: dict[str, str]
    answer: str
    kind: Kind
    key: str
    figures: dict[str, int]
    threshold: int | None = None
    story: Story = Story.SURVEY
    trail: dict[str, str] = {}
    corrected: dict[str, str] = {}


# Every wording a question can have. `read_question` reads exactly these.
# All of them say `of <key> in <directory>`: what varies is what is asked.
WORDINGS: dict[Kind, tuple[str, ...]] = {
    Kind.SUM: (
        "What is the sum of {key} in {directory}?",
        "What is the total of {key} in {directory}?",
        "Add up the figures of {key} in {directory}.",
    ),
    Kind.LARGEST: (
        "What is the largest figure of {key} in {directory}?",
        "What is the highest figure of {key} in {directory}?",
        "Find the maximum of {key} in {directory}.",
    ),
    Kind.SMALLEST: (
        "What is the smallest figure of {key} in {directory}?",
        "What is the lowest figure of {key} in {directory}?",
        "Find the minimum of {key} in {directory}.",
    ),
    Kind.COUNT: (
        "How many files have more than {threshold} of {key} in {directory}?",
        "Count the files with over {threshold} of {key} in {directory}.",
    ),
    Kind.WHICH_MOST: (
        "Which file has the most of {key} in {directory}?",
        "Name the file with the largest figure of {key} in {directory}.",
    ),
    Kind.WHICH_LEAST: (
        "Which file has the least of {key} in {directory}?",
        "Name the file with the smallest figure of {key} in {directory}.",
    ),
    Kind.FIGURE: ("What is the figure of {key} in {directory}?",),
}
NEWCOMERS = "Let newcomers read. "
TRAIL = "Follow {path} to the key. "
IT = "it"  # the key, in the question of a detour

# Noise: w is a word, n a number. No line has the form `word: number`; those are made apart.
SENTENCES = (
    "The {w} was seen {n} times.",
    "{n} of the {w} came late.",
    "Nobody counted the {w} that year.",
    "See page {n} about the {w} and the {w}.",
    "{w} and {w} were sent to {w}.",
    "It rained for {n} days.",
    "Checked by {w}, then by {w}.",
    "A note on {w}: see {w}.",
    "Year {n}, after the {w}.",
    "There were {n} {w} near the {w}.",
    "# {w} {n}",
    "Written at {w}.",
)
_ENDINGS = ("txt", "txt", "txt", "md", "log")


class Words:
    """A survey's words. Some training surveys have many that are alike, or alike to the words of calls: what they teach
    is to look closely. Held-out ones are as chance makes them."""

    def __init__(self, random: Random, split: Split) -> None:
        self._random, self._split = random, split
        self._near = random.choice((0.0, 0.1, 0.4)) if split == "train" else 0.0
        self._known = random.sample(CALLED, 2) if self._near else []

    def __call__(self, most_letters: int = 99) -> str:
        if not self._near:
            return make_word(self._random, self._split, most_letters)
        while True:
            near = self._random.random() < self._near
            word = make_near(self._random, self._known) if near else make_word(self._random, self._split)
            if len(word) <= most_letters:
                self._known = [*self._known, word][-12:]
                return word


def make_survey(random: Random, files: int | None = None, kind: Kind | None = None, split: Split = "train") -> Survey:
    """A survey of `files` files (2 to 12; drawn if None) and of `kind` (drawn if None)."""
    count = files if files is not None else random.randint(MIN_FILES, MAX_FILES)
    kind = kind if kind is not None else random.choice(SURVEYED)
    word = Words(random, split)
    key = word()
    directory = word(FOLDER_LETTERS)
    paths = _make_paths(random, word, directory, count, split)
    figures = dict(zip(paths, _make_figures(random, kind, count, split), strict=True))
    others = different(word, random.randint(1, 3), {key})
    threshold = _make_threshold(random, list(figures.values()), split) if kind is Kind.COUNT else None
    wording = random.choice(WORDINGS[kind])
    return Survey(
        question=wording.format(key=key, directory=directory, threshold=threshold),
        directory=directory,
        files={path: _make_text(random, word, key, figure, others, split) for path, figure in figures.items()},
        answer=truth(figures, kind, threshold),
        kind=kind,
        key=key,
        figures=figures,
        threshold=threshold,
    )


def write_survey(survey: Survey, directory: Path) -> None:
    """Write the files below `directory`, which is made if missing. Existing files are replaced."""
    write_texts(survey.files | survey.trail, directory)


def write_texts(texts: dict[str, str], directory: Path) -> None:
    """Write each text to its path below `directory`."""
    for path, text in texts.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def check(survey: Survey, answer_text: str) -> bool:
    """Whether `answer_text` is the right answer, and nothing but the answer."""
    return answer_text.strip() == survey.answer


def truth(figures: dict[str, int], kind: Kind, threshold: int | None = None) -> str:
    """The right answer. Raises SurveyError where there is none: no files, no threshold, a tie."""
    if not figures:
        raise SurveyError("no files: nothing to answer from")
    values = list(figures.values())
    if kind is Kind.FIGURE:
        if len(values) > 1:
            raise SurveyError(f"a figure of one file is asked for, and there are {len(values)}")
        return str(values[0])
    if kind is Kind.SUM:
        return str(sum(values))
    if kind is Kind.LARGEST:
        return str(max(values))
    if kind is Kind.SMALLEST:
        return str(min(values))
    if kind is Kind.COUNT:
        if threshold is None:
            raise SurveyError("a count needs a threshold")
        return str(sum(value > threshold for value in values))
    best = max(values) if kind is Kind.WHICH_MOST else min(values)
    holders = [path for path, value in figures.items() if value == best]
    if len(holders) > 1:
        raise SurveyError(f"{holders[0]} and {holders[1]} both have {best}: no one file is the answer")
    return holders[0]


def read_figures(directory: Path, key: str, below: str = ".") -> dict[str, int]:
    """The figure for `key` of every file under `directory/below`, by path relative to `directory`, sorted.

    Raises SurveyError, naming the file, where a file has no `key: figure` line, or more than one.
    """
    line = re.compile(rf"^{re.escape(key)}: (\d{{1,4}})$", re.MULTILINE)
    figures = {}
    start = directory / below
    for file in [start] if start.is_file() else start.rglob("*"):
        if not file.is_file():
            continue
        path = file.relative_to(directory).as_posix()
        try:
            found = line.findall(file.read_text())
        except UnicodeDecodeError as error:
            raise SurveyError(f"{path}: not a text file") from error
        if len(found) != 1:
            raise SurveyError(f"{path}: {len(found)} lines read '{key}: <figure>', there must be one")
        figures[path] = int(found[0])
    if not figures:
        raise SurveyError(f"{start}: no files")
    return dict(sorted(figures.items()))


def read_question(question: str) -> Question:
    """What `question` asks, read by its wording. Raises SurveyError for a wording that is not ours."""
    plain = question.strip().removeprefix(NEWCOMERS)
    trail = _TRAIL.match(plain)
    story = Story.ONBOARDING if plain != question.strip() else Story.DETOUR if trail else Story.SURVEY
    for kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(plain, trail.end() if trail else 0):
            found = match.groupdict()
            threshold = found.get("threshold")
            return Question(
                kind=kind,
                key=found["key"],
                directory=found["directory"],
                threshold=int(threshold) if threshold is not None else None,
                story=Story.REVIEW if kind is Kind.FIGURE else story,
                trail=trail["path"] if trail else "",
            )
    raise SurveyError(f"not a survey's question: {question.strip()[:80]!r}")


def pattern_of(wording: str) -> re.Pattern[str]:
    """What reads a wording: its slots are named groups."""
    pattern = re.escape(wording)
    for name, form in (("key", r"[^\W\d_]+"), ("directory", r"\S+?"), ("threshold", r"\d+"), ("path", r"\S+")):
        pattern = pattern.replace(rf"\{{{name}\}}", f"(?P<{name}>{form})")
    return re.compile(pattern)


_TRAIL = pattern_of(TRAIL)
_PATTERNS = [(kind, pattern_of(wording)) for kind, wordings in WORDINGS.items() for wording in wordings]


def different(make: Callable[[], T], count: int, taken: set[T]) -> list[T]:
    """`count` things that differ from each other and from `taken`."""
    found: list[T] = []
    while len(found) < count:
        if (one := make()) not in taken:
            taken.add(one)
            found.append(one)
    return found


def _make_paths(random: Random, word: Words, directory: str, count: int, split: Split) -> list[str]:
    folders, taken = [directory], {directory}  # no directory, and no file, is named as one that it lies in
    for folder in different(lambda: word(FOLDER_LETTERS), random.choice((0, 0, 0, 1, 2, 3)), taken):
        folders.append(f"{random.choice(folders[:2])}/{folder}")
    ending = random.choice(_ENDINGS)

    def name() -> str:
        (first,) = different(word, 1, set(taken))
        style = random.random()
        if style < 0.6:
            return first
        if style < 0.8:
            return f"{first}-{word()}"
        return f"{first}-{make_number(random, split)}"

    names = different(name, count, set())
    # One ending to a file's name, so that no path is the beginning of another.
    return sorted(f"{random.choice(folders)}/{name}.{ending}" for name in names)


def _make_figures(random: Random, kind: Kind, count: int, split: Split) -> list[int]:
    if kind in (Kind.WHICH_MOST, Kind.WHICH_LEAST) or random.random() < 0.8:
        return different(lambda: make_number(random, split), count, set())
    return [make_number(random, split) for _ in range(count)]


def _make_threshold(random: Random, figures: list[int], split: Split) -> int:
    """Often of the figures' own size, so that the count is neither none nor all; never one of the figures."""
    return different(lambda: make_number(random, split), 1, set(figures))[0]


def make_sentence(random: Random, word: Words, key: str, split: Split) -> str:
    """A line of noise in which `key` is no word."""
    line = random.choice(SENTENCES)
    while "{w}" in line:
        line = line.replace("{w}", different(word, 1, {key})[0], 1)
    return line.replace("{n}", str(make_number(random, split)))


def _make_text(random: Random, word: Words, key: str, figure: int, others: list[str], split: Split) -> str:
    lines = [f"{other}: {make_number(random, split)}" for other in others]
    lines.append(f"{key}: {figure}")
    random.shuffle(lines)
    for _ in range(random.choice((0, 1, 1, 2, 2, 3))):
        lines.insert(random.randint(0, len(lines)), make_sentence(random, word, key, split))
    return "\n".join(lines) + "\n"
