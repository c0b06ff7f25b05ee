"""From a run to rollouts: its segments as the edges of a tree, one `Rollout` for each root agent.

Owns how a token tree is cut into edges. An edge is the longest chain of segments that one agent went through without
anything branching off, being left or beginning anew, so:

- every segment of the root's agents is in exactly one edge, and with it every sampled token;
- each agent's head is the end of an edge, and so is every path that a rewind or a succession left behind;
- edges stand in the order in which they began, so parents come first; who finished when changes nothing of it.

The state of a run keeps segments and agents. What it does not keep (how a turn ended, which heads were left, which call
made whom, who was told what) is in the records: `Trace` is a fold over them, an observer of a live run or fed from its
journal.
Pure: it reads no file and no clock. Knows no rewards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, groupby, takewhile
from typing import Final

import msgspec

from agents.context import Origin, Segment
from agents.host import Agent, Outcome
from agents.tools.rewind import Rewind
from runtime.records import CallStarted, Ended, Forked, Given, Record, Returned, Rewound, Sampled, Started, Succeeded
from runtime.rollouts.schema import VERSION, Edge, Head, Leaf, Member, Rollout, Told, Turn, Versions
from runtime.state import RunState

__all__ = ["CONTINUED", "Trace", "replay", "rollouts_of"]

CONTINUED: Final = "continued"

Words = Callable[[Sequence[int]], str]

_LETTER = re.compile(r"(\w+)-s(\d{1,12})-\d+")  # the id of one that a turn sent: its agent, and the turn's last segment


class _Generation(msgspec.Struct, frozen=True):
    """What a `Sampled` record says that its segment does not."""

    finish: str
    prompt: int
    cached: int
    seconds: float


class Trace:
    """What the records of a run say beyond its state. `observe` is an Observer."""

    def __init__(self) -> None:
        self.owners: dict[int, str] = {}  # of segments: whose turns they are part of
        self.begins: dict[int, tuple[str, int | None]] = {}  # of an edge's first segment: its kind, and who decided it
        self.left: list[tuple[str, int]] = []  # agents, and heads that they moved away from
        self.generations: dict[int, _Generation] = {}
        self.kinds: dict[str, str] = {}  # of agents
        # Of given segments: whose results and letters they hold, and of a letter the segment whose turn sent it.
        self.told: dict[int, list[tuple[str, int | None]]] = {}
        self._became: dict[str, tuple[str, ...]] = {}  # of newcomers with several tasks: copies, which are all of it
        self._reviewers: dict[int, str] = {}  # by the turn that finished
        self._objects: dict[str, str] = {}  # of authors: the reviewer whose objection they are told next
        self._ended_well: set[str] = set()
        self._heads: dict[str, int] = {}
        self._calls: dict[str, str] = {}  # what agents called last, since they were told anything

    def observe(self, record: Record) -> None:
        """Take one record, in their order."""
        match record:
            case Started():
                kind = "review" if record.reviews else "root" if record.parent is None else "spawn"
                if record.reviews and record.called_by is not None:
                    self._reviewers[record.called_by] = record.agent
                if len(record.tasks) > 1:
                    self._became[record.agent] = ()
                self._born(record.agent, record.segment, kind, record.called_by)
            case Forked():
                if record.agent in self._became and not record.answers:
                    self._became[record.agent] = tuple(copy.agent for copy in record.copies)
                for copy in record.copies:
                    self._born(copy.agent, copy.segment, "host" if record.answers else "fork", record.called_by)
            case Sampled():
                self._went_on(record.agent, record.segment)
                self.generations[record.segment] = _Generation(
                    record.finish.value, record.prompt_tokens, record.cached_tokens, record.seconds
                )
            case Given():
                self._went_on(record.agent, record.segment)
                self._tells(record.segment, record.told, record.mail)
                if (reviewer := self._objects.pop(record.agent, None)) is not None:
                    self._tells(record.segment, (reviewer,))
            case Rewound():
                self._moved(record.agent, record.segment, "rewind")
                self._tells(record.segment, record.told)
            case Returned() if record.segment in self._reviewers:
                self._objects[record.agent] = self._reviewers[record.segment]
            case Ended() if record.outcome is Outcome.FINISHED:
                self._ended_well.add(record.agent)
            case Succeeded():
                self._moved(record.agent, record.segment, "succession")
            case CallStarted():
                self._calls[record.agent] = record.name
            case _:
                pass

    def _born(self, agent: str, segment: int, kind: str, called_by: int | None) -> None:
        self.kinds[agent] = kind
        self.begins[segment] = (kind, called_by)
        self._went_on(agent, segment)

    def _went_on(self, agent: str, segment: int) -> None:
        self.owners[segment] = agent
        self._heads[agent] = segment
        self._calls.pop(agent, None)

    def _moved(self, agent: str, segment: int, kind: str) -> None:
        was = self._heads[agent]
        self.left.append((agent, was))
        # Where a person moved it back, or its context was full, no turn of its own decided that.
        called = kind == "rewind" and self._calls.get(agent, "").startswith(Rewind.name)
        self.begins[segment] = (kind, was if called else None)
        self._went_on(agent, segment)

    def _tells(self, segment: int, agents: Iterable[str], letters: Iterable[str] = ()) -> None:
        told: list[tuple[str, int | None]] = []
        for agent in agents:
            passed_on = self._became.get(agent, ()) if agent in self._ended_well else ()
            told += [(one, None) for one in (agent, *passed_on)]
        for letter in letters:  # those that people dropped into a mailbox are nobody's here
            sent = _LETTER.fullmatch(letter)
            turn = int(sent[2]) if sent is not None else -1
            if sent is not None and turn in self.generations and self.owners[turn] == sent[1]:
                told.append((sent[1], turn))
        if told:
            self.told.setdefault(segment, []).extend(told)


def replay(records: Iterable[Record]) -> tuple[RunState, Trace]:
    """The state and the trace of a journal's records."""
    state, trace = RunState(), Trace()
    for record in records:
        state.apply(record)
        trace.observe(record)
    return state, trace


def rollouts_of(
    state: RunState,
    trace: Trace,
    *,
    task: str = "",
    group: str = "",
    attempt: int = 0,
    trained: Callable[[Member], bool] = lambda member: True,
    words: Words | None = None,
) -> list[Rollout]:
    """One rollout for each root agent, oldest first, named `<run>/<agent>`.

    `words` puts tokens into text, for what newcomers were told; without it that is left out.
    """
    return [
        _rollout(state, trace, root, task, group or task, attempt, trained, words)
        for root in state.agents.values()
        if root.parent is None
    ]


def _rollout(
    state: RunState,
    trace: Trace,
    root: Agent,
    task: str,
    group: str,
    attempt: int,
    trained: Callable[[Member], bool],
    words: Words | None,
) -> Rollout:
    agents = {agent.id: agent for agent in _descendants(state, root)}
    cut = _Cut(_chains(state, trace, agents))
    edges = tuple(_edge(number, cut, trace) for number in range(len(cut.chains)))
    leaves = [Leaf(edge=cut.edge[agent.head.id], agent=agent.id) for agent in agents.values()]
    leaves += [Leaf(edge=cut.edge[head], agent=who, abandoned=True) for who, head in trace.left if who in agents]
    members = tuple(_member(agent, trace.kinds[agent.id], trained, words) for agent in agents.values())
    head = Head(
        v=VERSION,
        id=f"{state.run}/{root.id}",
        task=task or state.run,
        group=group or state.run,
        run=state.run,
        prompt=root.task,
        outcome=root.outcome,
        result=root.result,
        members=members,
        leaves=tuple(leaves),
        model=state.settings.model,
        seconds=round(state.active_s, 6),
        attempt=attempt,
    )
    return Rollout(head=head, edges=edges)


def _descendants(state: RunState, root: Agent) -> Iterator[Agent]:
    """The root and all that came from it: an agent's parent is always older."""
    found = {root.id}
    for agent in state.agents.values():
        if agent.id in found or agent.parent in found:
            found.add(agent.id)
            yield agent


def _chains(state: RunState, trace: Trace, agents: dict[str, Agent]) -> list[list[Segment]]:
    """The segments of some agents, cut into edges; each chain is oldest first."""
    own = [segment for segment in state.segments.values() if trace.owners[segment.id] in agents]
    followed = Counter(segment.parent.id for segment in own if segment.parent is not None)
    ends = {agent.head.id for agent in agents.values()} | {head for _, head in trace.left}
    chains: dict[int, list[Segment]] = {}  # by the id of their last segment so far
    out: list[list[Segment]] = []
    for segment in own:  # numbers grow with time: a parent comes before what follows it
        before = segment.parent
        goes_on = (
            before is not None
            and segment.id not in trace.begins
            and followed[before.id] == 1
            and before.id not in ends
            and trace.owners[before.id] == trace.owners[segment.id]
        )
        if before is not None and goes_on:
            chain = chains.pop(before.id)
        else:
            out.append(chain := [])
        chain.append(segment)
        chains[segment.id] = chain
    return out


class _Cut:
    """Chains of segments as numbered edges, and where in them each segment is."""

    def __init__(self, chains: list[list[Segment]]) -> None:
        self.chains = chains
        self.edge = {segment.id: number for number, chain in enumerate(chains) for segment in chain}
        self.start: dict[int, int] = {}  # of a segment's tokens in its edge
        for chain in chains:
            for segment, end in zip(chain, accumulate(len(segment.tokens) for segment in chain), strict=True):
                self.start[segment.id] = end - len(segment.tokens)

    def turn(self, number: int) -> tuple[int, int, int]:
        """The edge of a sampled segment, and the span there of its turn up to its end."""
        edge = self.edge[number]
        pieces = takewhile(
            lambda segment: segment.origin is Origin.SAMPLED,
            (segment for segment in reversed(self.chains[edge]) if segment.id <= number),
        )
        turn = list(pieces)
        return edge, self.start[turn[-1].id], self.start[number] + len(turn[0].tokens)


def _edge(number: int, cut: _Cut, trace: Trace) -> Edge:
    chain = cut.chains[number]
    first = chain[0]
    parent = cut.edge[first.parent.id] if first.parent is not None else None
    kind, called_by = trace.begins.get(first.id, (CONTINUED, None))
    decided = cut.turn(called_by) if called_by is not None else None
    within = decided is not None and decided[0] == parent
    tokens: list[int] = []
    sampled: list[bool] = []
    logprobs: list[float | None] = []
    for segment in chain:
        mine = segment.origin is Origin.SAMPLED
        tokens += segment.tokens
        sampled += [mine] * len(segment.tokens)
        logprobs += segment.logprobs if mine else [None] * len(segment.tokens)
    return Edge(
        id=number,
        parent=parent,
        agent=trace.owners[first.id],
        kind=kind,
        tokens=tuple(tokens),
        sampled=tuple(sampled),
        logprobs=tuple(logprobs),
        versions=tuple(_versions(chain, cut)),
        turns=tuple(_turns(chain, cut, trace)),
        decision=decided[1:] if decided is not None and within else None,
        decided=None if within else decided,
        told=tuple(_told(chain, cut, trace)),
    )


def _told(chain: Sequence[Segment], cut: _Cut, trace: Trace) -> Iterator[Told]:
    """What came from agents of other roots is left out: they are in other rollouts."""
    for segment in chain:
        for agent, sender in trace.told.get(segment.id, ()):
            at = cut.start[segment.id]
            if sender is None:
                yield Told(at=at, agent=agent)
            elif sender in cut.edge:
                edge, _, end = cut.turn(sender)
                yield Told(at=at, agent=agent, sent=(edge, end))


def _versions(chain: Sequence[Segment], cut: _Cut) -> Iterator[Versions]:
    start = end = 0
    version = ""
    for segment in chain:
        if segment.origin is not Origin.SAMPLED:
            continue
        begins = cut.start[segment.id]
        if begins != end or segment.version != version:
            if end > start:
                yield Versions(start=start, end=end, version=version)
            start, version = begins, segment.version
        end = begins + len(segment.tokens)
    if end > start:
        yield Versions(start=start, end=end, version=version)


def _turns(chain: Sequence[Segment], cut: _Cut, trace: Trace) -> Iterator[Turn]:
    """A turn that was interrupted and went on is one; what was cached is what its first piece found."""
    for sampled, pieces in groupby(chain, key=lambda segment: segment.origin is Origin.SAMPLED):
        if sampled:
            turn = list(pieces)
            said = [trace.generations[piece.id] for piece in turn]
            yield Turn(
                start=cut.start[turn[0].id],
                end=cut.start[turn[-1].id] + len(turn[-1].tokens),
                finish=said[-1].finish,
                prompt=said[0].prompt,
                cached=said[0].cached,
                seconds=round(sum(one.seconds for one in said), 6),
            )


def _member(agent: Agent, kind: str, trained: Callable[[Member], bool], words: Words | None) -> Member:
    member = Member(
        id=agent.id,
        parent=agent.parent,
        kind=kind,
        task=agent.task,
        depth=agent.depth,
        role=agent.name,
        outcome=agent.outcome,
        result=agent.result,
        spec=words(agent.base.tokens) if words is not None and kind == "spawn" else "",
    )
    return member if trained(member) else msgspec.structs.replace(member, trainable=False)
