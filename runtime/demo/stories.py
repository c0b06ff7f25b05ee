"""Surveys with a story: what else the seedling can do with its files, beside forking.

Owns the three generators and the correction:

- *onboarding*: the files are for newcomers to read, who must ask for the key;
- *detour*: the question names a long file instead of a key; it names the next of a trail, and the last one the key;
- *review*: the figure of one file is asked for, and somebody else checks it; in half of them the file is corrected
  between the author's reading and the reviewer's.

Invariant: as for surveys, one seed makes one story, and trained and held-out ones share no name and no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from msgspec import structs

from runtime.budget import Budget
from runtime.demo.surveys import (
    FOLDER_LETTERS,
    IT,
    NEWCOMERS,
    TRAIL,
    WORDINGS,
    Kind,
    Story,
    Survey,
    SurveyError,
    Words,
    different,
    make_sentence,
    make_survey,
    pattern_of,
    write_texts,
)
from runtime.demo.words import Split, make_number
from runtime.records import CallEnded, Record, Settings

__all__ = ["GO_ON", "KEY_IS", "corrector", "follow", "leads_to", "make_detour", "make_story", "settings_of"]

GO_ON, KEY_IS = "Go on in {path}.", "The key is {key}."
# Ten times what twelve files take: a model that has lost its way is stopped within a minute.
SAMPLED_TOKENS, TURNS, TURN_TOKENS = 20_000, 400, 256
_GO_ON, _KEY_IS = pattern_of(GO_ON), pattern_of(KEY_IS)
MOST_TRAIL, TRAIL_LINES = 3, (10, 24)  # files, and lines in each: a dozen times a ledger in all


def make_story(random: Random, story: Story, files: int | None = None, split: Split = "train") -> Survey:
    """A survey of the story; `files` as in `make_survey`."""
    match story:
        case Story.SURVEY:
            return make_survey(random, files, split=split)
        case Story.ONBOARDING:
            survey = make_survey(random, files, split=split)
            return structs.replace(survey, story=story, question=NEWCOMERS + survey.question)
        case Story.DETOUR:
            return make_detour(random, make_survey(random, files, split=split), split)
        case Story.REVIEW:
            return _review(random, make_survey(random, files, Kind.SUM, split), split)


def settings_of(story: Story) -> Settings:
    """What a run of a story is started with."""
    budget = Budget(sampled_tokens=SAMPLED_TOKENS, turns=TURNS)
    return Settings(budget=budget, turn_tokens=TURN_TOKENS, review=story is Story.REVIEW)


def corrector(survey: Survey, directory: Path) -> Callable[[Record], None]:
    """Somebody who corrects a file as soon as it has been read: an observer of the run in `directory`."""
    left = [survey.corrected]

    def observe(record: Record) -> None:
        if isinstance(record, CallEnded) and left:
            write_texts(left.pop(), directory)

    return observe


def follow(directory: Path, path: str) -> str:
    """The key that the trail from `path` leads to. Raises SurveyError where it does not."""
    seen: set[str] = set()
    while path not in seen:
        seen.add(path)
        try:
            text = (directory / path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SurveyError(f"{path}: cannot be read") from error
        ahead, key = leads_to(text.split("\n"))
        if key:
            return key
        if not ahead:
            raise SurveyError(f"{path}: no line reads {GO_ON!r} or {KEY_IS!r}")
        path = ahead
    raise SurveyError(f"{path}: the trail leads in a circle")


def leads_to(lines: Sequence[str]) -> tuple[str, str]:
    """Where a file of a trail leads: to another file, or to the key; the other is ""."""
    for line in lines:
        if found := _GO_ON.fullmatch(line):
            return found["path"], ""
        if found := _KEY_IS.fullmatch(line):
            return "", found["key"]
    return "", ""


def make_detour(random: Random, survey: Survey, split: Split) -> Survey:
    """The survey with a trail to its key."""
    parts = {part for path in survey.files for part in path.split("/")}
    word = Words(random, split)
    (folder,) = different(lambda: word(FOLDER_LETTERS), 1, parts)
    names = different(word, random.randint(1, MOST_TRAIL), {folder})
    paths = [f"{folder}/{name}.md" for name in names]
    ends = [*(GO_ON.format(path=path) for path in paths[1:]), KEY_IS.format(key=survey.key)]
    trail = {}
    for path, end in zip(paths, ends, strict=True):
        lines = [make_sentence(random, word, survey.key, split) for _ in range(random.randint(*TRAIL_LINES))]
        lines.insert(random.randint(0, len(lines)), end)
        trail[path] = "\n".join(lines) + "\n"
    asked = random.choice(WORDINGS[survey.kind])
    question = asked.format(key=IT, directory=survey.directory, threshold=survey.threshold)
    return structs.replace(survey, story=Story.DETOUR, question=TRAIL.format(path=paths[0]) + question, trail=trail)


def _review(random: Random, survey: Survey, split: Split) -> Survey:
    path = random.choice(list(survey.files))
    figure, corrected = survey.figures[path], {}
    (wording,) = WORDINGS[Kind.FIGURE]
    if random.random() < 0.5:
        line = f"{survey.key}: {{}}".format
        (new,) = different(lambda: make_number(random, split), 1, {figure})
        lines = survey.files[path].split("\n")
        corrected = {path: "\n".join(line(new) if text == line(figure) else text for text in lines)}
        figure = new
    return structs.replace(
        survey,
        story=Story.REVIEW,
        kind=Kind.FIGURE,
        question=wording.format(key=survey.key, directory=path),
        figures={path: figure},
        answer=str(figure),
        corrected=corrected,
    )
