"""The expected answer where it should not be."""

from __future__ import annotations

import pytest

from runtime.rollouts.audit import inspect, read_transcript
from tests.runtime.rollouts.audit.building import Part, begun, edge, rollout, said, told
from tests.support import call, tiny_chat

READ = said(call("read_file", path="data.txt"))


def classes(answer: str, *parts: Part) -> list[str]:
    """What is found in a rollout whose task has that answer."""
    one = rollout([edge(0, None, "a1", "root", *parts)], info={"answer": answer})
    return [row.class_ for row in inspect(read_transcript(one, tiny_chat()))]


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("66", (begun("What do the 66 ledgers add up to?"), READ, told("total: 66"))),
        ("66", (begun("Add up."), said(call("calc", expression="60+6")), told("answer: 66"))),
        ("66", (begun("Add up."), said("It is 66."), told("x"), READ, told("the answer is 66"))),
        ("66", (begun("Add up."), said(call("fork", tasks=["a"])), told("a2: the answer is 66"))),
        ("6", (begun("The answer is 66 or 6.5"), READ, told("x"))),
        ("blue whale", (begun("Which is the largest?"), READ, told("the blue whale is large"))),
    ],
)
def test_answers_that_are_no_leak(answer: str, parts: tuple[Part, ...]) -> None:
    """By chance, by calculation, by the agent's own words, or as a fact in a file."""
    assert classes(answer, *parts) == []


@pytest.mark.parametrize(
    ("answer", "class_", "parts"),
    [
        ("66", "label_in_prompt", (begun('Add up. {"expected_answer": "66"}'), READ, told("x"))),
        ("blue whale", "label_in_prompt", (begun("Say the name of the Blue Whale."), READ, told("x"))),
        ("66", "label_in_result", (begun("Add up."), READ, told("id,label\n1,x\nlabel: 66"))),
        (
            "66",
            "label_in_result",
            (begun("Add up."), said(call("shell", command="cat x")), told("# ground truth = 66")),
        ),
    ],
)
def test_leaks(answer: str, class_: str, parts: tuple[Part, ...]) -> None:
    """In the prompt, or named as the answer by a file."""
    assert classes(answer, *parts) == [class_]


def test_without_an_answer_there_is_no_label() -> None:
    """The head says nothing of it."""
    assert classes("", begun("The answer is 66"), READ, told("answer: 66")) == []
