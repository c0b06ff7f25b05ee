"""Surveys: seeded, documented, answerable, and held-out ones share nothing with training ones."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from runtime.demo import (
    Kind,
    Split,
    Survey,
    SurveyError,
    check,
    make_survey,
    read_figures,
    read_question,
    truth,
    write_survey,
)
from runtime.demo.surveys import SENTENCES, SURVEYED, WORDINGS

SEEDS = range(300)


def made(split: Split) -> list[Survey]:
    return [make_survey(Random(seed), split=split) for seed in SEEDS]


@pytest.mark.parametrize("kind", SURVEYED)
def test_one_seed_makes_one_survey(kind: Kind) -> None:
    """The same seed and wishes give the same survey, with as many files as wished for."""
    first, again = (make_survey(Random(7), files=5, kind=kind) for _ in range(2))
    assert first == again
    assert (len(first.files), first.kind) == (5, kind)


def test_what_is_written_can_be_read_back(tmp_path: Path) -> None:
    """Files and question in the documented form give the figures, and with them the answer."""
    for seed, survey in enumerate(made("heldout")[:60]):
        write_survey(survey, tmp_path / str(seed))
        asked = read_question(survey.question)
        figures = read_figures(tmp_path / str(seed), asked.key, asked.directory)
        assert figures == survey.figures
        assert truth(figures, asked.kind, asked.threshold) == survey.answer


def test_held_out_surveys_share_nothing_with_training_ones() -> None:
    """No name, key, noise word or number of one side appears on the other; only the grammar does."""
    grammar = " ".join([*SENTENCES, *(w for wordings in WORDINGS.values() for w in wordings)])
    shared = set(re.findall(r"[A-Za-z]+", grammar)) | {"txt", "md", "log"}

    def words(surveys: list[Survey]) -> set[str]:
        texts = [text for s in surveys for text in (s.question, s.directory, *s.files, *s.files.values())]
        return set(re.findall(r"[A-Za-z]+|\d+", " ".join(texts))) - shared

    train, heldout = words(made("train")), words(made("heldout"))
    assert len(train) > 1000
    assert len(heldout) > 1000
    assert not train & heldout


def test_paths_and_answers_are_not_ambiguous() -> None:
    """Paths differ and none begins another; each file has one line with the key."""
    for survey in made("train"):
        paths = list(survey.files)
        assert paths == sorted(set(paths))
        assert not any(a != b and b.startswith(a) for a in paths for b in paths)
        assert all(path.startswith(f"{survey.directory}/") for path in paths)
        assert all(len(re.findall(rf"(?m)^{survey.key}: \d+$", text)) == 1 for text in survey.files.values())


def test_check_takes_the_answer_alone() -> None:
    """The right answer with space around it is right; anything more is not."""
    survey = make_survey(Random(1), kind=Kind.SUM)
    assert check(survey, f" {survey.answer}\n")
    assert not check(survey, f"It is {survey.answer}")
    assert not check(survey, "")


def test_what_is_not_in_the_form_is_refused_by_name(tmp_path: Path) -> None:
    """Errors name the file, or show the question, and say what is wrong."""
    (tmp_path / "a.txt").write_text("oats: 1\n")
    (tmp_path / "b.txt").write_text("oats: 1\noats: 2\n")
    with pytest.raises(SurveyError, match=r"b\.txt: 2 lines"):
        read_figures(tmp_path, "oats")
    with pytest.raises(SurveyError, match="a survey's question"):
        read_question("How are you?")
    with pytest.raises(SurveyError, match=r"a and b both have 3"):
        truth({"a": 3, "b": 3}, Kind.WHICH_MOST)
    with pytest.raises(SurveyError, match="threshold"):
        truth({"a": 3}, Kind.COUNT)
