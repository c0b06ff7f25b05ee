"""The scripted teachers: what to do next in a story, told from the context's text alone.

Owns the policy that the seedling learns. `decide` is pure and sees exactly what a model sees, so whatever it does
can be learned from the same tokens. Knows the stories' wordings and the harness's prompts; knows no story's answer, no
engine and no tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import structs

from runtime.demo import KEY_IS, Kind, Question, Story, leads_to, read_question
from runtime.demo.surveys import pattern_of

BRIEF = "Find a figure."
WHICH = "Which key?"

_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
_RESPONSE = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)
_COPY = re.compile(r"You are copy \d+ of \d+\. Your task: (.+)")
_RESULT = re.compile(r"(a\d+): (\S+): (\d+) (.+)")
_REVIEWED = re.compile(r"The task \(.*?\):\n(.*)\nThe result:\n(.*)\n\[")
_REPORT = re.compile(r"You are back at t0.*Your report:\n" + pattern_of(KEY_IS).pattern)


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A context as a teacher reads it: its first message, its calls, and the lines of the last message."""

    first: str
    calls: list[tuple[str, dict[str, Any]]]
    lines: list[str]

    @property
    def called(self) -> str:
        """The tool that was called last."""
        return self.calls[-1][0] if self.calls else ""

    def last(self, tool: str, argument: str) -> str:
        """An argument of the last call of a tool. Raises ValueError where there was none."""
        for called, arguments in reversed(self.calls):
            if called == tool:
                return str(arguments[argument])
        raise ValueError(f"{tool} was not called")


def decide(text: str) -> str:
    """The next turn after `text`, a whole context up to and with `<|im_start|>assistant` and a newline;
    without the token that ends it.

    Raises ValueError where the context is not one of a story.
    """
    turns = _TURN.findall(text)
    response = _RESPONSE.search(turns[-2][1])
    calls = [json.loads(found.group(1)) for _, body in turns if (found := _CALL.search(body))]
    if calls and response is None:
        raise ValueError("the last call has no result")
    seen = _Seen(
        first=turns[1][1],
        calls=[(call["name"], call["arguments"]) for call in calls],
        # The last line is the agent's status.
        lines=(response.group(1) if response else turns[-2][1]).split("\n")[:-1],
    )
    if seen.first.startswith("You are new."):
        return _newcomer(seen)
    if seen.first.startswith("You review"):
        return _reviewer(seen)
    question = read_question(seen.first.split("\n")[0])
    if question.story is Story.REVIEW:
        return _author(seen, question)
    if question.trail:
        back = _REPORT.search(text)
        if back is None:
            return _follower(seen, question)
        question = structs.replace(question, key=back["key"])
    return _surveyor(seen, question)


def expression(question: Question) -> str:
    """What to calculate from the results of the copies to answer `question`."""
    match question.kind:
        case Kind.SUM:
            return "sum(results)"
        case Kind.LARGEST | Kind.WHICH_MOST:
            return "max(results)"
        case Kind.SMALLEST | Kind.WHICH_LEAST:
            return "min(results)"
        case Kind.COUNT:
            return f"sum(results>{question.threshold})"
        case Kind.FIGURE:
            raise ValueError("of one file there is nothing to calculate")


# -- who one is ---------------------------------------------------------------------------------------------


def _surveyor(seen: _Seen, question: Question) -> str:
    """Lists, forks or spawns, calculates; as a copy, reads."""
    match seen.called:
        case "":
            return turn("list_files", path=question.directory)
        case "list_files":
            if question.story is Story.ONBOARDING:
                return turn("spawn", tasks=["{line}"], lines=True, brief=BRIEF)
            return turn("fork", tasks=["{line}"], lines=True)
        case "spawn" if seen.lines[0].startswith("You are a copy that answers"):
            return turn("finish", result=question.key)
        case "fork" if copy := _COPY.fullmatch(seen.lines[0]):
            return turn("read_file", path=copy.group(1))
        case "fork" | "spawn":
            return turn("calc", expression=expression(question))
        case "read_file":
            return _found(seen, question.key)
        case "calc":
            answer = _answer(question, seen.lines)
            # Said before it is done: the figure, and where its file is asked for, that.
            said = f"{seen.lines[0]} {answer}" if answer != seen.lines[0] else answer
            return f"{said}\n{turn('finish', result=answer)}"
        case name:
            raise ValueError(f"nothing follows {name}")


def _follower(seen: _Seen, question: Question) -> str:
    """Follows a trail of long files to the key, and goes back with it."""
    if not seen.calls:
        return turn("read_file", path=question.trail)
    ahead, key = leads_to(seen.lines)
    if ahead:
        return turn("read_file", path=ahead)
    return turn("rewind", to="t0", report=KEY_IS.format(key=key))


def _newcomer(seen: _Seen) -> str:
    """Asks for the key, begins, and as a copy reads."""
    match seen.called:
        case "":
            return turn("ask", questions=[WHICH])
        case "ask":
            return turn("begin", understanding=seen.lines[0])
        case "begin" if copy := _COPY.fullmatch(seen.lines[0]):
            return turn("read_file", path=copy.group(1))
        case "read_file":
            return _found(seen, seen.last("begin", "understanding"))
        case name:
            raise ValueError(f"nothing follows {name}")


def _author(seen: _Seen, question: Question) -> str:
    """Reads the one file, and again when its figure was not accepted."""
    if seen.called != "read_file":
        return turn("read_file", path=question.directory)
    figure = _figure(seen.lines, question.key)
    return f"{said_figure(question.key, figure)}\n{turn('finish', result=figure)}"


def _reviewer(seen: _Seen) -> str:
    """Reads the one file, and takes the figure that is there from the one that was said."""
    found = _REVIEWED.search(seen.first)
    if found is None:
        raise ValueError("there is nothing to review")
    question, result = read_question(found.group(1)), found.group(2)
    match seen.called:
        case "":
            return turn("read_file", path=question.directory)
        case "read_file":
            figure = _figure(seen.lines, question.key)
            return f"{said_figure(question.key, figure)}\n{turn('calc', expression=f'{result}-{figure}')}"
        case "calc" if seen.lines[0] == "0":
            return turn("verdict", verdict="accept")
        case "calc":
            figure = seen.last("calc", "expression").rpartition("-")[2]
            return turn("verdict", verdict="revise", comments=said_figure(question.key, figure))
        case name:
            raise ValueError(f"nothing follows {name}")


# -- the rest -----------------------------------------------------------------------------------------------


def turn(name: str, **arguments: Any) -> str:
    """A turn that makes one call."""
    call = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{call}\n</tool_call>"


def said_figure(key: str, figure: str) -> str:
    """A figure, after the question's own words for it: they tell whose."""
    return f"figure of {key}: {figure}"


def _found(seen: _Seen, key: str) -> str:
    """A copy's end: the key, its figure, the file."""
    return turn("finish", result=f"{key}: {_figure(seen.lines, key)} {seen.last('read_file', 'path')}")


def _figure(lines: Sequence[str], key: str) -> str:
    for line in lines:
        if line.startswith(f"{key}: "):
            return line.removeprefix(f"{key}: ")
    raise ValueError(f"no line for {key}")


def _answer(question: Question, lines: Sequence[str]) -> str:
    """From a calculation's value and, of a maximum or minimum, the result that it is of."""
    if question.kind not in (Kind.WHICH_MOST, Kind.WHICH_LEAST):
        return lines[0]
    whose = _RESULT.fullmatch(lines[1])
    if whose is None:
        raise ValueError("a copy has not answered with a key, a figure and a path")
    return whose.group(4)
