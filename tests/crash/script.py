"""What the agents of the crash harness do: a pure function of what each of them reads.

Owns a job that has everything in flight at once: a rewind, isolated copies that fork again and write to each other, an
interview, merges, and calls whose effect can be counted (`append`). Every agent decides by conditions and not by
counting its turns, so the same job is done whatever was interrupted; its answer is known beforehand. What failed for
want of space is tried again, for ever: somebody may make room, and else the journal finds none either.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar

from agents.host import Agent, Host, Reply
from agents.tools import TOOLS, Tool
from tests.support import call

__all__ = ["ANSWER", "LEAD", "LETTERS", "TASK", "TOOLSET", "WITNESS", "decide"]

TASK = "LEAD the job"
LEAD = "a1"
WITNESS = "witness.txt"  # beside the run's directory, so that no isolated copy and no merge touches it
LETTERS = {"one", "two", "red", "blue"}  # who writes to the lead
COMMAND = "echo begun >> shell.log; sleep 0.02; echo ended >> shell.log"  # so long that some die in the middle of it
ANSWER = "four letters, two merges"
_TURN = "<|im_start|>assistant\n"
_NO_SPACE = re.compile(r"<tool_response>\n.*No space left on device")
_FORKED = re.compile(r'"tasks": \[([^]]*)\], "isolated": true.*?^started ([a-z0-9, ]+)\.', re.DOTALL | re.MULTILINE)


class Append(Tool, frozen=True, kw_only=True):
    """Append a line that names this very call to a file that all share."""

    name: ClassVar[str] = "append"
    word: str

    async def run(self, agent: Agent, host: Host) -> Reply:
        line = f"{agent.id} s{agent.head.id} {self.word}\n".encode()
        descriptor = os.open(Path(os.environ["CRASH_WITNESS"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return Reply(text=f"appended {self.word}", did=f"appended {self.word}")


TOOLSET: dict[str, type[Tool]] = {**TOOLS, Append.name: Append}


def decide(text: str) -> str:
    """The next turn of whoever has read `text`."""
    # As if a call had not been made that found the disk full. What else it was told, such as letters, it has read.
    turns = text.split(_TURN)
    text = _TURN.join(turn.partition("<|im_end|>")[2] if _NO_SPACE.search(turn) else turn for turn in turns)
    # The host fork first: it has read the lead's whole context, and only its last words tell it from the lead.
    if "You are a copy that answers" in text:
        return call("finish", result="look at it, then count")
    if "You are new" in text:
        return _newcomer(text)
    roles = list(re.finditer(r"You are (?:still )?copy \d+ of \d+\. Your task: (\w+)", text))
    if not roles:
        return _lead(text)
    task, own = roles[-1][1], text[roles[-1].end() :]
    if task.startswith("leaf"):
        return _appending(own, task) or call("finish", result=task)
    return _worker(own, task)


def _lead(text: str) -> str:
    if "rewound once" not in text:
        return _appending(text, "before") or call("rewind", to="t0", report="rewound once")
    if '"name": "shell"' not in text:
        return call("shell", command=COMMAND)
    copies = _copies(text)
    if lost := [task for task in ("one", "two") if task not in copies]:
        return call("fork", tasks=lost, isolated=True, wait=False)
    if "(interview: " not in text:
        return call("spawn", tasks=["red", "blue"], brief="Colours.")
    told = set(re.findall(r"^Mail \S+ from \S+: (\w+)$", text, re.MULTILINE))
    missing = [name for name in copies.values() if not re.search(rf"^{name}: done", text, re.MULTILINE)]
    if missing:
        return call("wait", agents=missing)
    if not told >= LETTERS:  # people may have written too
        return call("wait", until="mail")
    merged = text.count('"name": "merge"')
    if merged < 2:
        return call("merge", agent=list(copies.values())[merged])
    return call("finish", result=ANSWER)


def _copies(text: str) -> dict[str, str]:
    """The isolated copies by their tasks, without those whose place could not be made."""
    found: dict[str, str] = {}
    for tasks, names in _FORKED.findall(text):
        found |= zip(re.findall(r"\w+", tasks), names.split(", "), strict=True)
    return {task: name for task, name in found.items() if not re.search(rf"^{name} failed", text, re.MULTILINE)}


def _worker(own: str, task: str) -> str:
    for word in (f"{task}_first", f"{task}_second"):
        if (said := _appending(own, word)) is not None:
            return said
    if not re.search(rf"(created|replaced) {task}\.txt", own):
        return call("write_file", path=f"{task}.txt", text=f"{task}\n")
    if f"leaf_{task}" not in own:
        return call("fork", tasks=[f"leaf_{task}_left", f"leaf_{task}_right"])
    if f'"subject": "{task}"' not in own:
        return call("send", to=LEAD, subject=task, body=f"{task} has something to say")
    return call("finish", result=f"done {task}")


def _newcomer(text: str) -> str:
    if "look at it, then count" not in text:
        return call("ask", questions=["What matters?"])
    begun = text.partition('"name": "begin"')[2]
    roles = list(re.finditer(r"You are copy \d+ of \d+\. Your task: (\w+)", begun))
    if not roles:
        return call("begin", understanding="count")
    task, own = roles[-1][1], begun[roles[-1].end() :]
    if (said := _appending(own, task)) is not None:
        return said
    if f'"subject": "{task}"' not in own:
        return call("send", to=LEAD, subject=task, body=f"{task} has something to say")
    return call("finish", result=f"done {task}")


def _appending(own: str, word: str) -> str | None:
    """The call that appends `word`, unless its agent has made it already, however that came out."""
    return None if f'"word": "{word}"' in own else call("append", word=word)
