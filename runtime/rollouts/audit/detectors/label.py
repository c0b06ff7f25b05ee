"""The expected answer where it should not be: in the first prompt, or in what a file or a command shows.

Needs `info["answer"]`. An answer that the model said before it was shown is its own. Short answers are everywhere, so
they count only behind a word that calls them the answer; the results of the agent's own copies and calculations never.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runtime.rollouts.audit.detector import Detector, Hit
from runtime.rollouts.audit.finding import Severity
from runtime.rollouts.audit.transcript import Event, Kind, Transcript

__all__ = ["DETECTOR"]

_SPECIFIC = 6  # characters: shorter answers stand in texts by chance
_SHOWING = {"read_file", "search", "list_files", "shell", "bash", "execute", "fetch", "web_search"}
_NAMED = (
    r"(?:answer|label|gold(?:en)?|ground[-_ ]?truth|expected(?:[-_ ](?:answer|result|output|value))?|solution|target"
    r"|correct)[\"'*]*\s*(?:is|are|:|=|=>|->|,)+\s*[\"'`*$]*"
)
_STATUS = re.compile(r"^\[\S+ t\d+ \| context .*\]$", re.MULTILINE)


def find(transcript: Transcript) -> Iterator[Hit]:
    """See DETECTOR."""
    answer = transcript.head.info.get("answer", "").strip()
    if not answer:
        return
    alone = re.compile(rf"(?<![\w.]){re.escape(answer)}(?![\w]|\.\d)", re.IGNORECASE)
    named = re.compile(_NAMED + rf"{re.escape(answer)}(?![\w]|\.\d)", re.IGNORECASE)
    for event in transcript.events(Kind.PROMPT, Kind.TOLD):
        prompt = event.kind is Kind.PROMPT and transcript.edges[event.edge].kind == "root"
        if not prompt and not any(call.call and call.call.name in _SHOWING for call in event.answers):
            continue
        text = _STATUS.sub("", event.text)
        match = named.search(text) or (alone.search(text) if prompt and len(answer) >= _SPECIFIC else None)
        if match is None or _said(alone, event, transcript):
            continue
        class_ = "label_in_prompt" if prompt else "label_in_result"
        severity = Severity.HIGH if match.re is named else Severity.MEDIUM
        yield Hit(class_=class_, severity=severity, event=event, quote=match.group())


def _said(answer: re.Pattern[str], event: Event, transcript: Transcript) -> bool:
    return any(answer.search(one.text) for one in transcript.before(event) if one.kind is Kind.SAID)


DETECTOR = Detector(
    name="label",
    classes={
        "label_in_prompt": "the expected answer, in the prompt",
        "label_in_result": "the expected answer, in what a tool showed",
    },
    find=find,
)
