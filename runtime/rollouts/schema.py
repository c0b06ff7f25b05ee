"""What a rollout is on disk and in memory: one root agent's whole token tree, with what it was rewarded for.

Owns the native format, JSON lines: a `Head` (task, group, agents, terms), then its `Edge`s, parents before children,
then an `End` that counts them. A file is any number of such blocks, so it is written and read as a stream, in the
memory of one rollout. Invariants, which `verify` checks:

- an edge's own tokens, after those of its parents, are what the engine was sent and what it sampled, bit for bit;
- `tokens`, `sampled` and `logprobs` are equally long; only sampled tokens have a log-probability;
- every agent has at least one leaf, and every leaf is some agent's; parents come before children;
- a term's step is a turn that is there, and what was told lies in an edge and is some agent's.

Knows no rewards' meaning, no credit and no trainer's format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import msgspec

from agents.host import Outcome
from workspace import NOT_JSON

__all__ = [
    "VERSION",
    "Edge",
    "Leaf",
    "Member",
    "Rollout",
    "RolloutCorrupt",
    "Term",
    "Told",
    "Turn",
    "Versions",
    "read_rollouts",
    "verify",
    "write_rollout",
]

VERSION = 1


class RolloutCorrupt(ValueError):
    """A file that is not one of rollouts, or is cut: names the file, the line and the field."""


class _Frozen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    pass


class Turn(_Frozen, frozen=True, kw_only=True):
    """One generation, at `start` to `end` of its edge's tokens. `cached` are prompt tokens taken from the KV cache."""

    start: int
    end: int
    finish: str
    prompt: int = 0
    cached: int = 0
    seconds: float = 0.0


class Versions(_Frozen, frozen=True, kw_only=True):
    """The weights that sampled the tokens from `start` to `end` of an edge."""

    start: int
    end: int
    version: str


class Told(_Frozen, frozen=True, kw_only=True):
    """From `at` on in an edge's tokens stands what an agent came to, or a letter of its.

    `sent`, of a letter: the edge of the turn that wrote it, and where that turn ends there.
    """

    at: int
    agent: str
    sent: tuple[int, int] | None = None


class Edge(_Frozen, frozen=True, kw_only=True, tag_field="record", tag="edge"):
    """The tokens between two points where the tree branches, or a leaf.

    `parent` is the edge that it goes on from; `agent` the one whose turns are in it (of an edge that several agents
    share, the one that took those turns). `kind` says how it came to be: `root`, `fork`, `spawn`, `host` (a fork that
    answers a newcomer), `review`, `rewind`, `succession`, or `continued` (the same agent after a fork). `logprobs` is
    None for given tokens. `decision` is the span of the parent's tokens whose call made it; where that call is not
    in the parent (a spawn, a rewind, a fork at an earlier checkpoint), `decided` has its edge and the span there.
    `told` says whose results and letters the given tokens hold, as the run recorded it; files made before that was
    kept have none.
    """

    id: int
    parent: int | None
    agent: str
    kind: str
    tokens: tuple[int, ...]
    sampled: tuple[bool, ...]
    logprobs: tuple[float | None, ...]
    versions: tuple[Versions, ...] = ()
    turns: tuple[Turn, ...] = ()
    decision: tuple[int, int] | None = None
    decided: tuple[int, int, int] | None = None
    told: tuple[Told, ...] = ()


class Leaf(_Frozen, frozen=True, kw_only=True):
    """Where a context of an agent ends: at the end of an edge. `abandoned`: by a rewind or a succession."""

    edge: int
    agent: str
    abandoned: bool = False


class Term(_Frozen, frozen=True, kw_only=True):
    """One part of a reward. Of one agent alone (`shared` false), or of it and all that came from it.

    A term of the root that is shared is everybody's. `step` is the edge and the turn that a step's term is for, None
    for an outcome. A term that could not be computed has no score and says why in `error`.
    """

    name: str
    agent: str
    score: float | None
    weight: float = 1.0
    shared: bool = False
    step: tuple[int, int] | None = None
    quote: str = ""
    error: str = ""


class Member(_Frozen, frozen=True, kw_only=True):
    """An agent of a rollout. `kind` as in Edge, `role` of its own making; `spec`: what a newcomer was told."""

    id: str
    parent: str | None
    kind: str
    task: str
    depth: int = 0
    role: str = ""
    trainable: bool = True
    outcome: Outcome | None = None
    result: str = ""
    spec: str = ""


class Head(_Frozen, frozen=True, kw_only=True, tag_field="record", tag="rollout"):
    """All of a rollout but its edges. `attempt`: which of the group it is, from 0, whenever it came to its end."""

    v: int
    id: str
    task: str
    group: str
    run: str
    prompt: str
    outcome: Outcome | None
    result: str
    members: tuple[Member, ...]
    leaves: tuple[Leaf, ...]
    terms: tuple[Term, ...] = ()
    model: str = ""
    error: str = ""
    dropped: str = ""  # why it is not to be trained on, where it is not
    seconds: float = 0.0
    info: dict[str, str] = {}
    attempt: int = 0


class End(_Frozen, frozen=True, kw_only=True, tag_field="record", tag="end"):
    """The end of a rollout's block."""

    id: str
    edges: int


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a task: `head` and the edges of its token tree, parents first."""

    head: Head
    edges: tuple[Edge, ...]

    def path(self, edge: int) -> list[Edge]:
        """The edges from the root of the context to `edge`, in order."""
        by_id = {one.id: one for one in self.edges}
        out: list[Edge] = []
        at: int | None = edge
        while at is not None:
            out.append(by_id[at])
            at = by_id[at].parent
        return out[::-1]

    def context(self, edge: int) -> list[int]:
        """All tokens up to the end of `edge`."""
        return list(chain.from_iterable(one.tokens for one in self.path(edge)))


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Head | Edge | End] = msgspec.json.Decoder(Head | Edge | End)


def write_rollout(file: BinaryIO, rollout: Rollout) -> None:
    """Append one block."""
    for record in (rollout.head, *rollout.edges, End(id=rollout.head.id, edges=len(rollout.edges))):
        file.write(_encoder.encode(record) + b"\n")


def read_rollouts(path: Path) -> Iterator[Rollout]:
    """The rollouts of a file, one at a time.

    Raises RolloutCorrupt at the first line that is none or at a block that is cut; what came before it was whole.
    """
    with path.open("rb") as file:
        yield from _read(file, path)


def _read(lines: Iterable[bytes], path: Path) -> Iterator[Rollout]:
    head: Head | None = None
    edges: list[Edge] = []
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            record = _decoder.decode(line)
        except NOT_JSON as error:
            raise RolloutCorrupt(f"{path}:{number}: not a record of a rollout: {error}") from error
        match record:
            case Head() if head is None:
                if record.v != VERSION:
                    raise RolloutCorrupt(f"{path}:{number}: v: version {record.v}, this ramet reads {VERSION}")
                head, edges = record, []
            case Edge() if head is not None:
                edges.append(record)
            case End() if head is not None and (record.id, record.edges) == (head.id, len(edges)):
                yield Rollout(head=head, edges=tuple(edges))
                head = None
            case _:
                raise RolloutCorrupt(f"{path}:{number}: record: out of place, a block was cut")
    if head is not None:
        raise RolloutCorrupt(f"{path}:{number}: the file ends within the rollout {head.id!r}")


def verify(rollout: Rollout) -> list[str]:
    """What is wrong with a rollout, one line for each; empty if nothing is."""
    wrong: list[str] = []
    seen: set[int] = set()
    members = {member.id for member in rollout.head.members}
    for edge in rollout.edges:
        if edge.parent is not None and edge.parent not in seen:
            wrong.append(f"edge {edge.id}: its parent {edge.parent} does not come before it")
        if edge.id in seen:
            wrong.append(f"edge {edge.id}: is there twice")
        seen.add(edge.id)
        if not len(edge.tokens) == len(edge.sampled) == len(edge.logprobs):
            wrong.append(f"edge {edge.id}: tokens, sampled and logprobs differ in length")
        elif any(lp is not None and not mine for lp, mine in zip(edge.logprobs, edge.sampled, strict=True)):
            wrong.append(f"edge {edge.id}: a given token has a log-probability")
        if edge.agent not in members:
            wrong.append(f"edge {edge.id}: its agent {edge.agent} is no member")
        for told in edge.told:
            if not 0 <= told.at < len(edge.tokens):
                wrong.append(f"edge {edge.id}: what {told.agent} told it lies outside, at {told.at}")
            if told.agent not in members:
                wrong.append(f"edge {edge.id}: {told.agent}, who told it something, is no member")
    wrong += [
        f"leaf of {leaf.agent}: there is no edge {leaf.edge}" for leaf in rollout.head.leaves if leaf.edge not in seen
    ]
    turns = {edge.id: len(edge.turns) for edge in rollout.edges}
    for term in rollout.head.terms:
        if term.step is not None and not 0 <= term.step[1] < turns.get(term.step[0], 0):
            wrong.append(f"term {term.name} of {term.agent}: there is no turn {term.step[1]} of an edge {term.step[0]}")
    wrong += [f"agent {one}: has no leaf" for one in sorted(members - {leaf.agent for leaf in rollout.head.leaves})]
    return wrong
