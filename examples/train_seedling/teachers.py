"""The scripted teacher: what to do next in a survey, told from the context's text alone.

Owns the policy that the seedling learns. `decide` is pure and sees exactly what a model sees, so whatever it does
can be learned from the same tokens. Knows the survey's wordings and the harness's prompts; knows no survey's
answer, no engine and no tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from runtime.demo import Kind, Question, read_question

_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
_RESPONSE = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)
_COPY = re.compile(r"You are copy \d+ of \d+\. Your task: (.+)")
_RESULT = re.compile(r"(a\d+): (\S+): (\d+) (.+)")


def decide(text: str) -> str:
    """The next turn after `text`, a whole context up to and with `<|im_start|>assistant` and a newline;
    without the token that ends it.

    Raises ValueError where the context is not one of a survey.
    """
    turns = _TURN.findall(text)
    question = read_question(turns[1][1].split("\n")[0])
    calls = [json.loads(found.group(1)) for role, body in turns if (found := _CALL.search(body))]
    if not calls:
        return _turn("list_files", path=question.directory)
    response = _RESPONSE.search(turns[-2][1])
    if response is None:
        raise ValueError("the last call has no result")
    lines = response.group(1).split("\n")[:-1]  # the last line is the agent's status
    name, arguments = calls[-1]["name"], calls[-1]["arguments"]
    if name == "list_files":
        return _turn("fork", tasks=["{line}"], lines=True)
    if name == "fork":
        if copy := _COPY.fullmatch(lines[0]):
            return _turn("read_file", path=copy.group(1))
        return _turn("calc", expression=expression(question))
    if name == "read_file":
        figure = _figure(lines, question.key)
        return _turn("finish", result=f"{question.key}: {figure} {arguments['path']}")
    if name == "calc":
        answer = _answer(question, lines)
        # Said before it is done: the figure, and where its file is asked for, that.
        said = f"{lines[0]} {answer}" if answer != lines[0] else answer
        return f"{said}\n{_turn('finish', result=answer)}"
    raise ValueError(f"nothing follows {name}")


def _turn(name: str, **arguments: Any) -> str:
    call = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{call}\n</tool_call>"


def _figure(lines: Sequence[str], key: str) -> str:
    for line in lines:
        if line.startswith(f"{key}: "):
            return line.removeprefix(f"{key}: ")
    raise ValueError(f"no line for {key}")


def _results(lines: Sequence[str]) -> list[tuple[str, str, str]]:
    """Of each copy its id, its figure and its path."""
    found = [_RESULT.fullmatch(line) for line in lines if line]
    if None in found:
        raise ValueError("a copy has not answered with a key, a figure and a path")
    return [(match.group(1), match.group(3), match.group(4)) for match in found if match]


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


def _answer(question: Question, lines: Sequence[str]) -> str:
    """From a calculation's value and, of a maximum or minimum, the result that it is of."""
    if question.kind not in (Kind.WHICH_MOST, Kind.WHICH_LEAST):
        return lines[0]
    return _results(lines[1:])[0][2]
