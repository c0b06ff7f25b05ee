"""Surveys and other stories: small tasks with a known answer, made from a seed. `ramet demo` plays one."""

from runtime.demo.stories import GO_ON, KEY_IS, corrector, follow, leads_to, make_story, settings_of
from runtime.demo.surveys import (
    Kind,
    Question,
    Split,
    Story,
    Survey,
    SurveyError,
    check,
    make_survey,
    read_figures,
    read_question,
    truth,
    write_survey,
)

__all__ = [
    "GO_ON",
    "KEY_IS",
    "Kind",
    "Question",
    "Split",
    "Story",
    "Survey",
    "SurveyError",
    "check",
    "corrector",
    "follow",
    "leads_to",
    "make_story",
    "make_survey",
    "read_figures",
    "read_question",
    "settings_of",
    "truth",
    "write_survey",
]
