"""Surveys: small tasks with a known answer, made from a seed. `ramet demo` plays one."""

from runtime.demo.surveys import (
    Kind,
    Question,
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

__all__ = [
    "Kind",
    "Question",
    "Split",
    "Survey",
    "SurveyError",
    "check",
    "make_survey",
    "read_figures",
    "read_question",
    "truth",
    "write_survey",
]
