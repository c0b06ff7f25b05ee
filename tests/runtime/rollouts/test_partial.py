"""Attempts at a part of a task's input: whoever scores so need not have done the task."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import structs

from agents.tools import TOOLS
from runtime.records import Settings
from runtime.rollouts.audit.series.partial import Input
from runtime.rollouts.collect import collect
from runtime.rollouts.credit import attempts
from runtime.rollouts.partial import partial_tasks
from runtime.rollouts.reward import Function
from runtime.rollouts.schema import Rollout
from runtime.rollouts.summary import Summary
from runtime.rollouts.tasks import Task
from tests.runtime.rollouts.test_collect import everything, ledgers
from tests.support import call, scripted, survey

pytestmark = pytest.mark.anyio
HOT = Settings(temperature=1.0)


def knowing(text: str) -> str:
    """The survey, by one who takes the answer from the prompt where it stands there, and gives up without tools."""
    if told := re.search(r"must be (\d+)", text):
        return call("finish", result=told[1])
    return call("finish", result="?") if "there is no tool" in text else survey(text)


async def test_a_task_that_leaks_and_one_that_does_not() -> None:
    """One flag: each task is attempted whole and in three parts. The task whose last sentence says the answer scores
    without its files and tools, and is named; the other is not. None of that is trained on or counted with the rest."""
    tight = structs.replace(ledgers("tight", 1, 2), prompt="What do the ledgers add up to?")
    leaky = structs.replace(ledgers("leaky", 1, 2), prompt="What do the ledgers add up to? It must be 3.")
    async with collect([tight, leaky], group=4, engine=scripted(knowing), settings=HOT, partial=True) as collected:
        rollouts = await everything(collected)
    groups = [f"{task}{part}" for task in ("tight", "leaky") for part in ("", *(f"@{one}" for one in Input))]
    assert [rollout.head.group for rollout in rollouts] == [group for group in groups for _ in range(4)]
    summary = Summary()
    for rollout in rollouts:
        summary.add(rollout)
    figures = summary.figures()
    assert figures["mean_reward"] == {"leaky": 1.0, "tight": 1.0}
    assert figures["dead_groups"] == ["leaky", "tight"]
    assert figures["partial"] == {
        "mean_score": {"last_sentence": 0.5, "no_tools": 0.5, "question": 0.0},
        "leaks": [
            "all tasks: 4 of 8 scored with last sentence only; 8 of 8 with everything",
            "all tasks: 4 of 8 scored with no tools only; 8 of 8 with everything",
            "leaky: 4 of 4 scored with last sentence only; 4 of 4 with everything",
            "leaky: 4 of 4 scored with no tools only; 4 of 4 with everything",
        ],
    }
    parts = [rollout for rollout in rollouts if "@" in rollout.head.group]
    assert len(parts) == 24
    assert all(attempts([rollout])[0].out.startswith("dropped: a partial input") for rollout in parts)


async def test_a_part_has_neither_files_nor_tools(tmp_path: Path) -> None:
    """Only the prompt that is given whole has its files; no part has a tool but to finish, a user, or a reviewer."""
    seen: list[tuple[str, list[str]]] = []

    def look(rollout: Rollout, directory: Path) -> float:
        seen.append(
            (rollout.head.info["input"], sorted(path.name for path in directory.iterdir() if path.name[0] != "."))
        )
        return 0.0

    task = Task(
        id="t",
        prompt="Read a. What is in it? Say it.",
        files={"a": "x"},
        user="You know.",
        settings={"review": True},
        rewards=(Function("look", look),),
    )
    parts = partial_tasks(task)
    assert [(part.prompt, part.user) for part in parts] == [("What is in it?", ""), (task.prompt, ""), ("Say it.", "")]
    refused: list[str] = []

    def decide(text: str) -> str:
        if "there is no tool" in text:
            refused.append(text)
            return call("finish", result="?")
        return call("read_file", path="a")

    async with collect(parts, group=1, engine=scripted(decide), settings=HOT, directory=tmp_path) as collected:
        rollouts = await everything(collected)
    assert [len(rollout.head.members) for rollout in rollouts] == [1, 1, 1]
    assert sorted(seen) == [("last_sentence", []), ("no_tools", ["a"]), ("question", [])]
    assert len(refused) == 3
    assert all("there are finish" in text for text in refused)
    assert "read_file" in TOOLS


async def test_a_sequence_has_no_parts() -> None:
    """They would leave their files, or none, to the next."""
    with pytest.raises(ValueError, match="sequence"):
        async with collect([Task(id="t", prompt="p")], group=2, engine=scripted(survey), sequential=True, partial=True):
            pass


def test_without_parts_nothing_is_said() -> None:
    """A summary of whole attempts has no line about parts."""
    assert "partial" not in Summary().figures()
