"""Letters between agents and people: sending, finding, and waking who waits for them.

Owns who is waiting for mail. Letters are files (`workspace.Post`); a letter counts as read from the record that told it
(`Given.mail`), after which its file moves; so a crash in between tells nothing twice. What an agent sends wakes its
recipients at once; what people drop into a mailbox is noticed by a watch, which runs from the first time that anybody
waits. Invariants: a letter is told to its agent exactly once, at the start of a turn; nobody who waits for mail sleeps
while some lies there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import anyio
from anyio.abc import TaskStatus

from agents.host import Agent, ToolRefused
from agents.told import letter_text, named, waiting_text
from runtime.state import RunState
from workspace import Letter, MailFailed, Post, RunLayout, watch_mail

__all__ = ["ALL", "HUMAN", "LETTERS_A_TURN", "Mail"]

ALL = "all"
ORDERS = "ramet"  # whom people write to who want something of the runtime; agents cannot
HUMAN = "human"
# Letters told in one turn, and characters of each that are shown: more would crowd out the work. The rest comes next
# turn, and the whole of a letter is its file.
LETTERS_A_TURN = 8
SHOWN_CHARS = 2_000


class Mail:
    """The mail of one run."""

    def __init__(self, layout: RunLayout, state: RunState) -> None:
        self._layout = layout
        self._state = state
        self._post = Post(layout)
        self._waiting: dict[str, anyio.Event] = {}
        self._untold: dict[str, list[Letter]] = {}  # by agent: read before a crash took the record of that
        self._over = anyio.Event()

    def open(self, agent: Agent) -> None:
        """Give an agent its mailbox."""
        self._post.open(agent.id)

    def reopen(self, agent: Agent) -> None:
        """Make an agent's mailbox agree with the record, after a crash: what it was told is read, the rest is not."""
        self._post.read(agent.id, agent.letters)
        known = set(agent.letters)
        self._untold[agent.id] = [letter for letter in self._post.letters(agent.id) if letter.id not in known]

    def open_office(self) -> None:
        """Give the people who watch a mailbox, and one to write to the runtime."""
        self._post.open(HUMAN)
        self._post.open(ORDERS)

    async def orders(self) -> list[list[str]]:
        """Wait for what people want of the runtime; returns the words of each letter's subject, once."""
        while True:
            event = self._waiting.setdefault(ORDERS, anyio.Event())
            if letters := self._post.unread(ORDERS):
                self._post.read(ORDERS, [letter.id for letter in letters])
                return [letter.subject.split() for letter in letters]
            await event.wait()

    def send(self, agent: Agent, to: Sequence[str], subject: str, body: str, in_reply_to: str) -> tuple[str, ...]:
        """Deliver a letter of the agent's present call; returns its recipients. Blocks for a few small files.

        Delivered again after a crash it is the same letter. Raises ToolRefused.
        """
        recipients = tuple(dict.fromkeys(self._named(to, agent)))
        letter = Letter(
            id=f"{agent.id}-s{agent.head.id}-{len(agent.started)}",
            sender=agent.id,
            to=recipients,
            subject=subject,
            body=body,
            date=time.time(),
            in_reply_to=in_reply_to,
        )
        try:
            self._post.deliver(letter)
        except MailFailed as error:
            raise ToolRefused(f"send: {error}") from error
        for name in recipients:
            self.wake(name)
        return recipients

    def unread(self, agent: Agent) -> list[Letter]:
        """What the agent has not been told, oldest first."""
        found = {letter.id: letter for letter in (*self._untold.get(agent.id, ()), *self._post.unread(agent.id))}
        for known in agent.letters if found else ():
            found.pop(known, None)
        return list(found.values())

    def tell(self, agent: Agent) -> tuple[list[Letter], list[str]]:
        """The letters that the agent is told in this turn, and each of them in words; the last says how many wait."""
        found = self.unread(agent)
        letters = found[:LETTERS_A_TURN]
        texts = [self._text(letter) for letter in letters]
        if len(found) > len(letters):
            texts[-1] += "\n" + waiting_text(len(found) - len(letters), LETTERS_A_TURN)
        return letters, texts

    def put_away(self, agent: Agent, letters: Sequence[Letter]) -> None:
        """They have been told."""
        if letters:
            self._post.read(agent.id, [letter.id for letter in letters])

    def wake(self, name: str) -> None:
        """There may be something in the mailbox `name`."""
        if event := self._waiting.pop(name, None):
            event.set()

    async def arrived(self, agent: Agent) -> None:
        """Wait until something lies in the agent's mailbox that it was not told."""
        while True:
            event = self._waiting.setdefault(agent.id, anyio.Event())
            if self.unread(agent):
                return
            await event.wait()

    async def watch(self, *, task_status: TaskStatus[None]) -> None:
        """Notice what people drop into mailboxes, until cancelled. Reports when the watch is in place."""
        await watch_mail(self._layout, self.wake, stop=self._over, task_status=task_status)

    def _text(self, letter: Letter) -> str:
        path = self._layout.relative(self._layout.mail(letter.to[0])) if letter.to else ""
        known = self._state.agents.get(letter.sender)
        sender = named(letter.sender, known.name if known is not None else "")
        return letter_text(letter.id, sender, letter.subject, letter.body, SHOWN_CHARS, path)

    def _named(self, names: Sequence[str], sender: Agent) -> Iterator[str]:
        """Whom `names` mean; the living are looked for once, however many names there are. Raises ToolRefused."""
        living: list[str] | None = None
        for name in names:
            found = self._state.agents.get(name)
            if name == HUMAN or (found is not None and found is not sender and found.outcome is None):
                yield name
            elif found is sender:
                raise ToolRefused("send: that is you")
            elif found is not None:
                raise ToolRefused(f"send: {name} has ended ({found.outcome}); its result is {found.result[:200]!r}")
            else:
                living = self._living(sender) if living is None else living
                if name != ALL:
                    there = ", ".join(living[:40]) or "no others"
                    raise ToolRefused(f"send: there is no agent {name!r}; there are {there}")
                if not living:
                    raise ToolRefused("send: there is nobody else; people read what is sent to human")
                yield from living

    def _living(self, sender: Agent) -> list[str]:
        return [agent.id for agent in self._state.agents.values() if agent.outcome is None and agent is not sender]
