"""The journal's records: everything that ever happened in a run, in order, one JSON object a line.

Owns the format on disk. The first record is `Opened`, with the version of the format. Records name segments by
numbers that the run gives out in order; a segment's parent is the head of its agent at that moment, or what the
record says. `at` is wall-clock seconds since 1970: recorded, never acted upon.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from agents.host import Outcome, Reply
from runtime.budget import Budget
from runtime.engine.base import FinishReason
from workspace import Limits

__all__ = [
    "VERSION",
    "Begun",
    "CallEnded",
    "CallStarted",
    "Closed",
    "Copy",
    "Ended",
    "Forked",
    "Given",
    "Judged",
    "Opened",
    "Outage",
    "Paused",
    "Record",
    "Resumed",
    "Returned",
    "Rewound",
    "Sampled",
    "Settings",
    "Started",
    "Succeeded",
    "Warmed",
    "decode",
    "encode",
]

VERSION = 1

Token = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]  # what a segment can hold


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a run was started with, and what a resume needs to go on alike."""

    model: str = ""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    turn_tokens: int = 2_048  # most tokens one turn may sample
    constrain: bool = False
    unsandboxed: bool = False
    budget: Budget = Budget()
    limits: Limits = Limits()  # of every command that agents run
    check: str = ""  # a command that must pass before the lead's result is accepted
    review: bool = False  # have it reviewed by a fresh agent
    review_rounds: int = 3  # a result that was refused so often is rejected


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record", tag=str.lower):
    at: float = 0.0


class Opened(_Record, frozen=True, kw_only=True):
    """The header."""

    version: int
    run: str
    settings: Settings


class Started(_Record, frozen=True, kw_only=True):
    """An agent with a context of its own: a root, or a newcomer that the turn `called_by` of `parent` asked for.

    A newcomer with `tasks` is onboarded first and may ask `questions` times.
    """

    agent: str
    segment: int
    tokens: tuple[Token, ...]
    task: str
    budget: Budget | None = None
    parent: str | None = None
    called_by: int | None = None
    tasks: tuple[str, ...] = ()
    questions: int = 0
    reviews: bool = False
    place: str | None = None


class Copy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One copy of a fork, and what it is told. `place`: in whose isolated copy of the files it works."""

    agent: str
    segment: int
    tokens: tuple[Token, ...]
    task: str
    place: str | None = None


class Forked(_Record, frozen=True, kw_only=True):
    """An agent was copied, once for each of `copies`, at `segment`: all of them or, after a crash, none.

    `called_by` is the segment whose turn asked for it; None where that was done from outside. `budget` is each copy's.
    With `answers` the copy is a host fork: `segment` is of whoever started `agent`, whose questions it answers.
    """

    agent: str
    segment: int
    copies: tuple[Copy, ...]
    called_by: int | None = None
    budget: Budget | None = None
    answers: bool = False


class Begun(_Record, frozen=True, kw_only=True):
    """A newcomer's onboarding is over."""

    agent: str
    understanding: str


class Sampled(_Record, frozen=True, kw_only=True):
    """A turn that the engine returned."""

    agent: str
    segment: int
    tokens: tuple[Token, ...]
    logprobs: tuple[float, ...]
    finish: FinishReason
    prompt_tokens: int
    cached_tokens: int
    short_tokens: int = 0  # by how much `cached_tokens` was less than it should have been
    version: str = ""
    seconds: float = 0.0


class Warmed(_Record, frozen=True, kw_only=True):
    """The engine computed a shared prefix, up to `segment`, for the first of several that need it."""

    agent: str
    segment: int
    prompt_tokens: int
    cached_tokens: int


class Given(_Record, frozen=True, kw_only=True):
    """What an agent was told. `told` names the agents whose results it holds, `mail` the letters."""

    agent: str
    segment: int
    tokens: tuple[Token, ...]
    told: tuple[str, ...] = ()
    mail: tuple[str, ...] = ()


class Rewound(_Record, frozen=True, kw_only=True):
    """An agent's head moved back to the segment `to`, and it was told a report. The path it left stays in the tree."""

    agent: str
    to: int
    segment: int
    tokens: tuple[Token, ...]
    told: tuple[str, ...] = ()


class Succeeded(_Record, frozen=True, kw_only=True):
    """An agent whose context was full goes on in a fresh one."""

    agent: str
    segment: int
    tokens: tuple[Token, ...]


class CallStarted(_Record, frozen=True, kw_only=True):
    """A call of the agent's last turn begins. `name` is the call in a few words."""

    agent: str
    index: int
    name: str


class CallEnded(_Record, frozen=True, kw_only=True):
    """What it came to."""

    agent: str
    index: int
    reply: Reply


class Judged(_Record, frozen=True, kw_only=True):
    """A reviewer's verdict."""

    agent: str
    accepted: bool
    comments: str = ""


class Returned(_Record, frozen=True, kw_only=True):
    """An agent's result was not accepted; `segment` is the turn that called finish."""

    agent: str
    segment: int
    reason: str


class Paused(_Record, frozen=True, kw_only=True):
    """An agent and all that it started take no new turns, or (`paused` false) take them again."""

    agent: str
    paused: bool


class Named(_Record, frozen=True, kw_only=True):
    """An agent was given a name and a description."""

    agent: str
    name: str
    description: str = ""


class Ended(_Record, frozen=True, kw_only=True):
    """An agent stopped. `changes`: what it changed in its isolated copy of the files, in a line."""

    agent: str
    outcome: Outcome
    result: str = ""
    changes: str = ""


class Outage(_Record, frozen=True, kw_only=True):
    """There is trouble with the engine, it is gone or fails, for a `reason`; or (`over`) there is none any more."""

    reason: str = ""
    over: bool = False


class Resumed(_Record, frozen=True, kw_only=True):
    """The run goes on after it had stopped."""


class Closed(_Record, frozen=True, kw_only=True):
    """The run is over."""

    outcome: Outcome
    result: str = ""


Record = (
    Opened
    | Started
    | Forked
    | Begun
    | Sampled
    | Warmed
    | Given
    | Rewound
    | Succeeded
    | CallStarted
    | CallEnded
    | Judged
    | Returned
    | Paused
    | Named
    | Ended
    | Outage
    | Resumed
    | Closed
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """One line of the journal, without its newline."""
    return _encoder.encode(record)


def decode(line: bytes) -> Record:
    """A record. Raises msgspec.DecodeError (or its ValidationError) for anything else."""
    return _decoder.decode(line)
