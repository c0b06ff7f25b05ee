"""What an agent is told by the runtime, in words: pure functions of its state.

Owns these sentences, so that the loop, the tools and the runtime say the same thing the same way; where something is
cut, refused or stopped at a limit, they name it. Siblings' texts differ as late as they can, so that they share as much
of the cache as they can.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from agents.host import Agent, Deed, Outcome
from agents.prompts import prompt

if TYPE_CHECKING:
    from workspace import Limits

__all__ = [
    "begun_text",
    "copy_text",
    "cut_text",
    "cut_turn_text",
    "exit_text",
    "host_text",
    "interview_note",
    "letter_text",
    "named",
    "nearly_full",
    "newcomer_text",
    "project_text",
    "rejected_text",
    "result_line",
    "review_text",
    "revise_text",
    "rewind_text",
    "started_text",
    "status_line",
    "succession_text",
    "waiting_text",
]

MAX_SKILLS = 64
"""Skills that are listed: each is a line of every context."""


def status_line(name: str, turn: int, used_tokens: int, context_tokens: int, budget: float, mail: int = 0) -> str:
    """`[a3 t12 | context 5120/32768 | budget 81% | mail 1]`: id, checkpoint, tokens so far, share of the budget left,
    and, where there are any, the letters that came with this message.
    """
    letters = f" | mail {mail}" if mail else ""
    return f"[{name} t{turn} | context {used_tokens}/{context_tokens} | budget {budget:.0%}{letters}]"


def copy_text(copy: int, copies: int, task: str, *, isolated: bool = False) -> str:
    """What a copy is told first."""
    files = "\nYou have your own copy of the files: your changes are merged later, if at all." if isolated else ""
    return f"You are copy {copy} of {copies}. Your task: {task}{files}"


def result_line(agent: Agent) -> str:
    """What a parent is told of one child that ended."""
    if len(agent.tasks) > 1 and agent.outcome is Outcome.FINISHED:
        return agent.result  # the lines of the copies that a newcomer became
    said, who = agent.result or "(no result)", named(agent.id, agent.name)
    if agent.changes:
        said += f"\n[{agent.changes}; merge({agent.id}) takes that over]"
    return f"{who}: {said}" if agent.outcome is Outcome.FINISHED else f"{who} {agent.outcome}: {said}"


def named(id: str, name: str) -> str:
    """`a3`, or `a3 (scout)` where it was given a name."""
    return f"{id} ({name})" if name else id


def started_text(names: Iterable[str]) -> str:
    """What a parent is told that does not wait."""
    return f"started {', '.join(names)}. You are told of each result when it is there; wait() waits for them."


def newcomer_text(parent: str, brief: str, tasks: Sequence[str], files: Sequence[str], *, questions: bool) -> str:
    """What a newcomer is told first. What differs between newcomers comes last."""
    lines = ["You are new. Ask what you must know, then begin." if questions else "You are new."]
    lines += [brief] if brief else []
    lines += ["Your tasks, one for each copy of you:" if len(tasks) > 1 else "Your task:", *tasks]
    return "\n".join([*lines, f"Started by {parent}, of whom you can read: {', '.join(files)}"])


def host_text(newcomer: str, tasks: str, questions: Sequence[str]) -> str:
    """What a host fork is told: who asks what."""
    asked = "\n".join(questions)
    return f"You are a copy that answers {newcomer}, who is to do: {tasks}\nIt asks:\n{asked}\nFinish with answers."


def review_text(path: str, task: str, result: str) -> str:
    """What a reviewer is told first. What differs between reviews comes last."""
    return (
        "You review work that is said to be done, by an agent whose context you do not see. Look at the files "
        "themselves, run what can be run, and end with verdict(accept or revise, comments). Accept only what you "
        f"have seen to be right.\nThe task ({path}):\n{task}\nThe result:\n{result}"
    )


def revise_text(reviewer: str, comments: str) -> str:
    """What an author is told whose result a reviewer did not accept."""
    return f"{reviewer} reviewed this and asks you to revise it:\n{comments}"


def rejected_text(author: Agent) -> str:
    """Why an agent was rejected, for whoever reads: it had ended by then, and was not told."""
    reason = next(reversed(author.returned.values()), "")
    times = f"{len(author.returned)} times" if len(author.returned) != 1 else "once"
    return f"Its result was refused {times}, which is the most (--review-rounds). The last reason:\n{reason}".rstrip()


def begun_text(task: str) -> str:
    """What a newcomer with one task is told when it begins."""
    return f"Begun. Your task: {task}"


def interview_note(path: str) -> str:
    """Where a newcomer's questions and their answers are."""
    return f"(interview: {path})"


def project_text(conventions: str, skills: Sequence[tuple[str, str, str]]) -> str:
    """What every agent of a project is told of it: its conventions, and the name, purpose and path of its skills."""
    parts = [f"This project's AGENTS.md:\n{conventions}"] if conventions else []
    lines = [f"- {name}: {purpose} ({path})" for name, purpose, path in skills[:MAX_SKILLS]]
    if rest := skills[MAX_SKILLS:]:
        place = rest[0][2].rpartition("/")[0].rpartition("/")[0]
        lines.append(f"[{len(rest)} more skills are not listed, {MAX_SKILLS} are: all of them are in {place}]")
    parts += ["\n".join(["Skills, to be read before they are used:", *lines])] if lines else []
    return "\n\n".join(parts)


def letter_text(id: str, sender: str, subject: str, body: str, most: int, mailbox: str) -> str:
    """What an agent is told of a letter: at most `most` characters of it, and where the whole is."""
    more = f"\n[cut after {most} of {len(body)} characters: the whole is in {mailbox}/cur]" if len(body) > most else ""
    return f"Mail {id} from {sender}: {subject}\n{body[:most].rstrip()}{more}"


def waiting_text(letters: int, most: int) -> str:
    """What an agent is told that has more letters than are told in a turn."""
    return f"[more letters wait, {letters}: they come with your next turns, at most {most} with each]"


def exit_text(code: int, limits: Limits) -> str:
    """How a command ended that did not end well, and at which limit, where its exit code tells.

    That of memory does not: a process that gets no more of it says so, or not, in its own words.
    """
    if code == 128 + signal.SIGXCPU:
        return f"exit code {code}: a process used more than {limits.cpu_s} s of processor time (--limit cpu)"
    if code == 128 + signal.SIGXFSZ:
        return f"exit code {code}: a file would have become larger than {limits.file_bytes} bytes (--limit file)"
    return f"exit code {code}"


def cut_text(text: str, most: int) -> str:
    """The first `most` characters, with a note where that is not all."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[cut after {most} of {len(text)} characters: there is no room for more in your context]"


def cut_turn_text(tokens: int, most: int) -> str:
    """What an agent is told whose turn ended at a limit: `tokens` long, of `most` that any turn may have."""
    limit = f"the most that a turn may have (turn_tokens {most})" if tokens >= most else "all there was room for"
    return f"error: your turn was cut after {tokens} tokens, {limit}: its end is missing. Do less in one turn."


def nearly_full(used_tokens: int, context_tokens: int) -> str:
    """The announcement of a context that nears its limit."""
    return (
        f"Your context is nearly full ({used_tokens} of {context_tokens} tokens). Finish, fork, or rewind to a "
        "checkpoint; otherwise you will soon go on in a fresh context, with your files only."
    )


def rewind_text(
    agent: Agent, turn: int, report: str, deeds: Sequence[Deed], results: Sequence[Agent], working: Sequence[Agent]
) -> str:
    """What a past self is told: the report, and what stays done."""
    lines = [f"You are back at t{turn}, by rewinding. What came after is out of your context. Your report:", report]
    if agent.copies and turn < agent.base.turn:
        lines.append(copy_text(agent.copy, agent.copies, agent.task).replace("You are", "You are still", 1))
    if deeds:
        lines += ["Done since, and not undone:", *(f"- {deed.text}" for deed in deeds)]
    if results:
        lines += ["Results since:", *(result_line(child) for child in results)]
    if working:
        lines.append(f"Still at work for you: {', '.join(child.id for child in working)}")
    return "\n".join(lines)


def succession_text(agent: Agent, history: str, others: Sequence[str], working: Sequence[Agent], notes: str) -> str:
    """What an agent is told first in a fresh context."""
    lines = [prompt("succession"), f"Your task: {agent.task}", f"Your history: {history}"]
    lines += [f"Before that: {path}" for path in others]
    lines.append(f"Notes: {notes}")
    if agent.deeds:
        lines += ["The last things you did:", *(f"- {deed.text}" for deed in agent.deeds[-20:])]
    if working:
        lines.append(f"At work for you: {', '.join(child.id for child in working)}")
    return "\n".join(lines)
