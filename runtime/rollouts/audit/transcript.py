"""A rollout as an audit reads it: what each agent was given, said and called, with the tokens that it lies in.

Owns the decoding of tokens to events. Invariants: every token of every edge lies in the span of exactly one given or
said event; a call's span is the turn's that made it; events of one path come in its order. Knows no detector and no
taint.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from functools import partial
from itertools import groupby

import msgspec

from agents.chat import Call, Chat
from agents.context import Origin, Segment
from runtime.rollouts.audit.calls import commands_of
from runtime.rollouts.audit.command import Command
from runtime.rollouts.schema import Edge, Head, Rollout

__all__ = ["Event", "Kind", "Transcript", "read_transcript"]

_TAIL_TOKENS = 64  # what the chat format looks at before a turn to see how it began


class Kind(enum.StrEnum):
    """What an event is."""

    PROMPT = "prompt"  # given, the first thing of a context
    TOLD = "told"  # given later: results of calls, a copy's task, mail
    SAID = "said"  # a turn, as it was sampled
    CALLED = "called"  # one call of it


class Event(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Something on one edge. `answers`: of a told event, the calls that it may answer."""

    kind: Kind
    edge: int
    agent: str
    turn: int
    span: tuple[int, int]
    text: str
    call: Call | None = None
    commands: tuple[Command, ...] = ()
    answers: tuple[Event, ...] = ()


class Transcript:
    """The events of one rollout, by edge. `head` is the rollout's own."""

    def __init__(self, rollout: Rollout, chat: Chat, events: dict[int, list[Event]]) -> None:
        self.head: Head = rollout.head
        self.edges = {edge.id: edge for edge in rollout.edges}
        self.by_edge = events
        self._chat = chat

    def events(self, *kinds: Kind) -> Iterator[Event]:
        """All events of these kinds, edge by edge."""
        for events in self.by_edge.values():
            for event in events:
                if event.kind in kinds:
                    yield event

    def before(self, event: Event) -> Iterator[Event]:
        """What came before `event` in its context, newest first."""
        own = self.by_edge[event.edge]
        yield from reversed(own[: next(place for place, one in enumerate(own) if one is event)])
        at = self.edges[event.edge].parent
        while at is not None:
            yield from reversed(self.by_edge[at])
            at = self.edges[at].parent

    def result_of(self, event: Event) -> str:
        """What the turn that made the call `event` was told next, on its own edge."""
        return next((one.text for one in self.by_edge[event.edge] if any(e is event for e in one.answers)), "")

    def span_of(self, event: Event, quote: str) -> tuple[int, int]:
        """The tokens of `event` that spell `quote`: all of its tokens where they do not, as within escapes."""
        begin, end = event.span
        tokens = self.edges[event.edge].tokens[begin:end]
        text = self._chat.text(tokens)
        for spelt in (quote, json.dumps(quote)[1:-1], json.dumps(quote, ensure_ascii=False)[1:-1]):
            at = text.find(spelt)
            if spelt and at >= 0:
                first = self._tokens_to(tokens, at + 1) - 1
                return begin + first, begin + self._tokens_to(tokens, at + len(spelt))
        return event.span

    def _tokens_to(self, tokens: tuple[int, ...], characters: int) -> int:
        """How many tokens it takes to spell that many characters, by bisection."""
        low, high = 1, len(tokens)
        while low < high:
            middle = (low + high) // 2
            # A character that is cut decodes as one of its own, so a prefix never looks longer than it is by much.
            if len(self._chat.text(tokens[:middle]).rstrip("\ufffd")) >= characters:
                high = middle
            else:
                low = middle + 1
        return low


def read_transcript(rollout: Rollout, chat: Chat) -> Transcript:
    """Decode a rollout whose edges come parents first. Never raises for what a model wrote."""
    events: dict[int, list[Event]] = {}
    tails: dict[int, tuple[int, ...]] = {}
    calls: dict[int, tuple[Event, ...]] = {}  # of the last turn up to the end of an edge
    for edge in rollout.edges:
        tail = tails[edge.parent] if edge.parent is not None else ()
        last = calls[edge.parent] if edge.parent is not None else ()
        own: list[Event] = []
        for begin, end, mine in _runs(edge):
            turn = next((n for n, one in enumerate(edge.turns) if one.end > begin), len(edge.turns))
            tokens = edge.tokens[begin:end]
            event = partial(Event, edge=edge.id, agent=edge.agent, turn=turn, span=(begin, end))
            if mine:
                said = _calls(chat, tail, tokens)
                last = tuple(
                    event(kind=Kind.CALLED, text=_spoken(call), call=call, commands=commands_of(call)) for call in said
                )
                own += [event(kind=Kind.SAID, text=chat.text(tokens)), *last]
            else:
                first = edge.parent is None and not own
                kind = Kind.PROMPT if first else Kind.TOLD
                own.append(event(kind=kind, text=chat.text(tokens), answers=last))
                last = ()
            tail = (*tail, *tokens[-_TAIL_TOKENS:])[-_TAIL_TOKENS:]
        events[edge.id], tails[edge.id], calls[edge.id] = own, tail, last
    return Transcript(rollout, chat, events)


def _calls(chat: Chat, tail: tuple[int, ...], tokens: tuple[int, ...]) -> tuple[Call, ...]:
    before = Segment(0, None, Origin.GIVEN, tail)
    return chat.parse(Segment(1, before, Origin.SAMPLED, tokens)).calls


def _spoken(call: Call) -> str:
    return " ".join(str(value) for value in call.arguments.values())


def _runs(edge: Edge) -> Iterator[tuple[int, int, bool]]:
    """Where the tokens of an edge change hands."""
    at = 0
    for mine, group in groupby(edge.sampled):
        begin, at = at, at + sum(1 for _ in group)
        yield begin, at, mine
