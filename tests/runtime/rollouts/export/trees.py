"""Random rollouts: any tree that a run can leave, with forks, spawns and rewinds, silent agents and failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from random import Random
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from agents.host import Outcome
from runtime.rollouts.credit import ESTIMATORS, Credit
from runtime.rollouts.export import FORMATS, batches
from runtime.rollouts.schema import VERSION, Edge, Head, Leaf, Member, Rollout, Term, Turn, Versions

__all__ = ["credited", "exported", "files", "groups", "in_order", "rollouts", "steady"]

# On a machine that is busy a tree may take long to draw; how long says nothing about the behaviour.
steady = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)

KINDS = ("fork", "spawn", "host", "review")
NUMBERS = st.floats(-4, 4, width=16)


@st.composite
def _edge(draw: st.DrawFn, number: int, parent: int | None, agent: str, kind: str) -> Edge:
    """Given and sampled stretches in any order; every sampled one is a turn."""
    random = Random(draw(st.integers(0, 2**16)))  # what need not shrink: values, not shapes
    tokens: list[int] = []
    sampled: list[bool] = []
    turns = []
    for mine in draw(st.lists(st.booleans(), max_size=5)):
        length = random.randint(1, 4)
        if mine:
            turns.append(
                Turn(
                    start=len(tokens),
                    end=len(tokens) + length,
                    finish=random.choice(("stop", "length", "abort")),
                    prompt=random.randrange(10),
                    seconds=0.5,
                )
            )
        tokens += random.choices(range(1000), k=length)
        sampled += [mine] * length
    logprobs = [-9 * random.random() if mine else None for mine in sampled]
    cut = random.randint(0, len(tokens))
    return Edge(
        id=number,
        parent=parent,
        agent=agent,
        kind=kind,
        tokens=tuple(tokens),
        sampled=tuple(sampled),
        logprobs=tuple(logprobs),
        turns=tuple(turns),
        versions=(
            Versions(start=0, end=cut, version=random.choice(("3", "4", "default"))),
            Versions(start=cut, end=len(tokens), version="5"),
        ),
    )


@st.composite
def rollouts(draw: st.DrawFn, name: str = "t/0", group: str = "t_1") -> Rollout:
    """One rollout of up to eight edges, whose leaves are where agents ended."""
    edges = [draw(_edge(0, None, "a0", "root"))]
    members = [Member(id="a0", parent=None, kind="root", task="all of it", outcome=Outcome.FINISHED, result="42")]
    for number in range(1, draw(st.integers(1, 8))):
        parent = draw(st.sampled_from(edges))
        kind = draw(st.sampled_from((*KINDS, "continued", "rewind")))
        agent = parent.agent
        if kind in KINDS:
            agent = f"a{len(members)}"
            members.append(
                Member(
                    id=agent,
                    parent=parent.agent,
                    kind=kind,
                    task=f"part {number}",
                    role=draw(st.sampled_from(("", "clerk"))),
                    trainable=draw(st.integers(0, 3)) > 0,
                )
            )
        edges.append(draw(_edge(number * 3, None if kind == "spawn" else parent.id, agent, kind)))
    # An agent's last edge is where it ends; its other tips were left behind.
    above = {edge.parent for edge in edges}
    last = {edge.agent: edge.id for edge in edges}
    leaves = [
        Leaf(edge=edge.id, agent=edge.agent, abandoned=last[edge.agent] != edge.id)
        for edge in edges
        if edge.id not in above or last[edge.agent] == edge.id
    ]
    failed = draw(st.integers(0, 9)) == 0
    return Rollout(
        head=Head(
            v=VERSION,
            id=name,
            task="t",
            group=group,
            run="r",
            prompt="add it up",
            outcome=None if failed else Outcome.FINISHED,
            result="42",
            members=tuple(members),
            leaves=tuple(leaves),
            terms=draw(_terms(members, edges)),
            model="seedling",
            error="the engine is gone" if failed else "",
        ),
        edges=tuple(edges),
    )


@st.composite
def _terms(draw: st.DrawFn, members: Sequence[Member], edges: Sequence[Edge]) -> tuple[Term, ...]:
    terms = [Term(name="right", agent="a0", score=draw(NUMBERS), shared=True)]
    for member in draw(st.lists(st.sampled_from(members), max_size=3)):
        score = draw(st.none() | NUMBERS) if draw(st.integers(0, 4)) == 0 else draw(NUMBERS)
        terms.append(Term(name="own", agent=member.id, score=score, weight=0.5))
    steps = [(edge.id, turn, edge.agent) for edge in edges for turn in range(len(edge.turns))]
    if steps and draw(st.booleans()):
        edge, turn, agent = draw(st.sampled_from(steps))
        terms.append(Term(name="step", agent=agent, score=draw(NUMBERS), step=(edge, turn)))
    return tuple(terms)


@st.composite
def groups(draw: st.DrawFn, group: str = "t_1") -> list[Rollout]:
    """One to three attempts at a task."""
    return [draw(rollouts(f"{group}/{number}", group)) for number in range(draw(st.integers(1, 3)))]


def nothing(name: str, group: str) -> Rollout:
    """An attempt that failed before there was an agent."""
    head = Head(
        v=VERSION,
        id=name,
        task="t",
        group=group,
        run="",
        prompt="add it up",
        outcome=Outcome.FAILED,
        result="",
        members=(),
        leaves=(),
        error="its files cannot be laid out",
    )
    return Rollout(head=head, edges=())


@st.composite
def files(draw: st.DrawFn) -> list[Rollout]:
    """The attempts at up to three tasks, mixed."""
    found = [one for number in range(draw(st.integers(1, 3))) for one in draw(groups(f"g_{number}"))]
    if draw(st.integers(0, 9)) == 0:
        found.append(nothing("g_0/lost", "g_0"))
    return draw(st.permutations(found))


def exported(found: Sequence[Rollout], to: str, credit: str = "segment") -> list[dict[str, Any]]:
    """What an export of these rollouts holds, after a trip through JSON."""
    by_group: dict[str, list[Rollout]] = {}
    for one in found:
        by_group.setdefault(one.head.group, []).append(one)
    wrong: list[str] = []
    out = [
        msgspec.json.decode(msgspec.json.encode(line))
        for batch in batches(by_group.values(), credit, lambda _: "", wrong.append)
        for line in FORMATS[to](batch)
    ]
    assert wrong == []
    return out


def in_order(found: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts in the order of an export: group by group."""
    first = {one.head.group: number for number, one in reversed(list(enumerate(found)))}
    return sorted(found, key=lambda one: first[one.head.group])


def credited(found: Sequence[Rollout], credit: str = "segment") -> Iterator[tuple[Rollout, Credit]]:
    """Each rollout with its credit, in that order."""
    for _, group in groupby(in_order(found), key=lambda one: one.head.group):
        members = list(group)
        yield from zip(members, ESTIMATORS[credit](members), strict=True)
