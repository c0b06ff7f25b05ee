"""How far what one agent found reaches: from a hit, through the token tree and the joins, to all who could know.

A *flow* says that what was known at a place of one edge is known from a place of another on. There are five kinds:

- an edge goes on from its parent, whole: a hit on a shared prefix taints every descendant;
- a *join*: a member's result, told to another, who knows it from there on, as does who is forked later;
- a letter, from the turn that sent it to where it was told;
- a newcomer or a reviewer begins with what the turn that asked for it knew;
- a rewind's report and a successor's files carry over what the left path knew.

Joins and letters are what the run recorded (`Edge.told`). In a rollout none of whose edges has that, as in files from
before it was kept, they are found by their text, which may find too many.

So a hit in one branch reaches its siblings only after a join, and a sibling that was forked before it, and is told
nothing, stays clean. Invariant: the result is a least fixpoint over sets, so the order of rows, edges and members is
without influence. What travels through shared files alone is not seen.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from runtime.rollouts.audit.transcript import Event, Kind, Transcript
from runtime.rollouts.schema import Edge, Member

__all__ = ["Flow", "flows_of", "spread"]

Place = tuple[int, int]  # an edge, and a position in its tokens

_ASKING = {"spawn": "spawn", "review": "finish"}  # kinds of members with a context of their own, and the asking call


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever stands before `source` on that edge is known from `target` on."""

    source: Place
    target: Place


def spread(places: Iterable[Place], flows: Iterable[Flow]) -> dict[int, int]:
    """Where each edge is tainted from, given the places of hits; edges that are clean are left out."""
    leaving: Mapping[int, list[Flow]] = defaultdict(list)
    for flow in flows:
        leaving[flow.source[0]].append(flow)
    tainted: dict[int, int] = {}
    due = list(places)
    while due:
        edge, at = due.pop()
        if tainted.get(edge, at + 1) <= at:
            continue
        tainted[edge] = at
        due += [flow.target for flow in leaving[edge] if flow.source[1] > at]
    return tainted


def flows_of(transcript: Transcript) -> list[Flow]:
    """All flows of a rollout."""
    members = {member.id: member for member in transcript.head.members}
    out: list[Flow] = []
    for edge in transcript.edges.values():
        if edge.parent is not None:
            out.append(Flow(source=_end(transcript.edges[edge.parent]), target=(edge.id, 0)))
        member = members.get(edge.agent)
        if edge.decided is not None:
            out.append(Flow(source=(edge.decided[0], edge.decided[2]), target=(edge.id, 0)))
        elif edge.kind in ("rewind", "succession"):
            out += [Flow(source=place, target=(edge.id, 0)) for place in _left(edge, transcript)]
        elif edge.parent is None and member is not None and member.parent is not None:
            out += [Flow(source=place, target=(edge.id, 0)) for place in _asked(edge, member, transcript)]
    if any(edge.told for edge in transcript.edges.values()):
        return [*out, *_recorded(transcript)]
    told = list(transcript.events(Kind.TOLD))
    for member in members.values():
        out += _joins(member, told, transcript)
    return [*out, *_letters(told, transcript)]


def _end(edge: Edge) -> Place:
    return edge.id, len(edge.tokens)


def _left(edge: Edge, transcript: Transcript) -> Iterator[Place]:
    """The ends of the paths that the agent had left when it came to `edge`; edges are numbered as they came."""
    for leaf in transcript.head.leaves:
        if leaf.abandoned and leaf.agent == edge.agent and leaf.edge < edge.id:
            yield _end(transcript.edges[leaf.edge])


def _asked(edge: Edge, member: Member, transcript: Transcript) -> list[Place]:
    """Where the member was asked for, if the edge does not say it: the call of its parent that has its task, or else
    wherever its parent was."""
    mine = [event for event in transcript.events(Kind.CALLED) if event.agent == member.parent and event.call]
    calls = [event for event in mine if event.call and event.call.name == _ASKING.get(edge.kind, edge.kind)]
    fitting = [event for event in calls if member.task and member.task in event.text] or calls
    if fitting:
        return [(event.edge, event.span[1]) for event in fitting]
    return [_end(one) for one in transcript.edges.values() if one.agent == member.parent]


def _ends(agent: str, transcript: Transcript) -> list[Place]:
    """Where an agent came to its result: the ends of its paths but those that it left."""
    leaves = [leaf for leaf in transcript.head.leaves if leaf.agent == agent and not leaf.abandoned]
    return [_end(transcript.edges[leaf.edge]) for leaf in leaves]


def _recorded(transcript: Transcript) -> Iterator[Flow]:
    """Joins and letters, as the run recorded them."""
    for edge in transcript.edges.values():
        for told in edge.told:
            sources = _ends(told.agent, transcript) if told.sent is None else [told.sent]
            yield from (Flow(source=source, target=(edge.id, told.at)) for source in sources)


def _joins(member: Member, told: list[Event], transcript: Transcript) -> Iterator[Flow]:
    """From the ends of a member to every text that tells its result: a line with its name, or its result's first."""
    named = re.compile(rf"^{re.escape(member.id)}(?: \([^)\n]*\))?(?::| reviewed| [a-z_]+:)", re.MULTILINE)
    first = member.result.strip().partition("\n")[0] if member.kind in ("host", "spawn", "review") else ""
    sources = _ends(member.id, transcript)
    for event in told:
        if event.agent == member.id:
            continue
        if named.search(event.text) or (len(first) > 3 and first in event.text):
            yield from (Flow(source=source, target=(event.edge, event.span[0])) for source in sources)


def _letters(told: list[Event], transcript: Transcript) -> Iterator[Flow]:
    """From each `send` to the texts that hold its subject, from its sender."""
    sent = [event for event in transcript.events(Kind.CALLED) if event.call and event.call.name == "send"]
    for letter in sent:
        subject = str(letter.call.arguments.get("subject", "")) if letter.call else ""
        head = re.compile(rf"^Mail \S+ from {re.escape(letter.agent)}\b.*: {re.escape(subject)}", re.MULTILINE)
        for event in told:
            if event.agent != letter.agent and head.search(event.text):
                yield Flow(source=(letter.edge, letter.span[1]), target=(event.edge, event.span[0]))
