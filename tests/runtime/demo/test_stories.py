"""Stories beside the survey: seeded, readable by their question, and answerable from what is on disk."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from agents.host import Reply
from runtime.demo import (
    Story,
    SurveyError,
    corrector,
    follow,
    make_story,
    read_figures,
    read_question,
    settings_of,
    truth,
    write_survey,
)
from runtime.records import CallEnded


@pytest.mark.parametrize("story", Story)
def test_what_is_written_answers_the_question(story: Story, tmp_path: Path) -> None:
    """A story is known by its question; its files, corrected once one was read, give the answer; a seed makes one."""
    for seed in range(40):
        place = tmp_path / str(seed)
        made = make_story(Random(seed), story, split="heldout")
        assert made == make_story(Random(seed), story, split="heldout")
        write_survey(made, place)
        read = corrector(made, place)
        for _ in range(2):
            read(CallEnded(agent="a1", index=0, reply=Reply(text="")))
        asked = read_question(made.question)
        assert (asked.story, asked.kind, settings_of(story).review) == (story, made.kind, story is Story.REVIEW)
        key = follow(place, asked.trail) if asked.trail else asked.key
        assert key == made.key
        assert truth(read_figures(place, key, asked.directory), asked.kind, asked.threshold) == made.answer


def test_a_review_is_of_a_file_that_may_change() -> None:
    """About half of the files are corrected, to another figure and nothing else."""
    stories = [make_story(Random(seed), Story.REVIEW) for seed in range(100)]
    corrected = [made for made in stories if made.corrected]
    assert 30 < len(corrected) < 70
    for made in corrected:
        ((path, text),) = made.corrected.items()
        changed = [
            pair for pair in zip(made.files[path].split("\n"), text.split("\n"), strict=True) if len(set(pair)) > 1
        ]
        assert [new for _, new in changed] == [f"{made.key}: {made.answer}"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("nothing\n", "no line reads"), ("Go on in a.md.\n", "in a circle"), ("Go on in b.md.\n", "b.md: cannot be read")],
)
def test_a_trail_that_leads_nowhere(text: str, reason: str, tmp_path: Path) -> None:
    """A trail without an end is a SurveyError that names the file."""
    (tmp_path / "a.md").write_text(text)
    with pytest.raises(SurveyError, match=reason):
        follow(tmp_path, "a.md")
