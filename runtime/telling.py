"""What agents are told, as tokens: fresh contexts, status lines, and texts cut to the room that is left.

Owns the measure of what fits. Invariant: after being told something, an agent has room left to act on it. Knows an
agent's account and its head; starts nothing and records nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from agents.chat import Chat
from agents.context import Segment
from agents.host import Agent
from agents.prompts import prompt
from agents.told import MAX_SKILLS, cut_text, nearly_full, project_text, status_line
from agents.tools import Tool, schema
from runtime.budget import Account
from runtime.engine.base import Capacity
from runtime.turns import LEAST_TURN_TOKENS
from workspace import find_skills, read_conventions

__all__ = ["Telling", "read_project"]

_log = structlog.get_logger(__name__)
# The share of its context at which an agent is told that it is nearly full: time enough for some turns.
NEARLY_FULL = 0.8


class Telling:
    """Of one run. `account_of` gives an agent's account, for None the run's; `project` is what all are told of it."""

    def __init__(
        self,
        chat: Chat,
        capacity: Capacity,
        tools: Mapping[str, type[Tool]],
        account_of: Callable[[Agent | None], Account],
        project: str = "",
    ) -> None:
        self._chat = chat
        self._context_tokens = capacity.context_tokens
        self._tools = tools
        self._account_of = account_of
        self._project = project

    def begin(self, message: str) -> list[int]:
        """The tokens of a fresh context whose first message is `message`."""
        if self._chat.terse:
            return self._chat.begin(prompt("terse"), message)
        system = "\n\n".join(part for part in (prompt("system"), self._project) if part)
        return self._chat.begin(system, message, [schema(tool) for tool in self._tools.values()])

    def status(self, name: str, account_of: Agent | None, head: Segment | None, mail: int = 0) -> str:
        """The status line of the agent `name`, which draws on the account of `account_of`, with its head at `head`."""
        turn, length = (head.turn, head.length) if head is not None else (0, 0)
        return status_line(name, turn, length, self._context_tokens, self._account_of(account_of).left(), mail)

    def extension(self, agent: Agent, texts: Sequence[str], news: Sequence[str], letters: Sequence[str]) -> list[int]:
        """The tokens that tell the agent `texts`, the answers of its calls, then `news`, `letters` and its status.

        The texts are cut so that the context keeps room to act on them.
        """
        head = agent.head
        status = self.status(agent.id, agent, head, len(letters))
        tail = "\n".join([*news, *letters, *self._warning(head), status])
        room = self._context_tokens - head.length - max(self._context_tokens // 16, 4 * LEAST_TURN_TOKENS)
        shown = max(map(len, texts))
        while True:
            *before, last = (cut_text(text, shown) for text in texts)
            tokens = self._chat.extend(head, [*before, f"{last}\n{tail}"])
            if len(tokens) <= room or shown == 0:
                return tokens
            # Aim a little below what would fit: text differs in how many characters a token has.
            shown = int(shown * 0.9 * max(room, 0) / len(tokens)) if shown > 64 else 0

    def _warning(self, head: Segment) -> list[str]:
        most = self._context_tokens
        full = head.length > NEARLY_FULL * most and most - head.length - 1 > LEAST_TURN_TOKENS
        return [nearly_full(head.length, most)] if full else []


def read_project(directory: Path) -> str:
    """What all agents are told of a project, "" if nothing. Blocks; people are warned of what that leaves out."""
    skills = [(skill.name, skill.description, skill.path) for skill in find_skills(directory)]
    if (left := len(skills) - MAX_SKILLS) > 0:
        _log.warning("more skills than agents are told of", told=MAX_SKILLS, not_told=left, directory=str(directory))
    return project_text(read_conventions(directory), skills)
