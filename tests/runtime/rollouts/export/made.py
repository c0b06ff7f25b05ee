"""Rollouts made by hand, and big ones by number, for what needs a certain shape."""

from __future__ import annotations

from random import Random

from agents.host import Outcome
from runtime.rollouts.schema import VERSION, Edge, Head, Leaf, Member, Rollout, Term, Turn, Versions

__all__ = ["alone", "forking"]


def edge(number: int, parent: int | None, agent: str, kind: str, tokens: list[int], given: int) -> Edge:
    """An edge whose first tokens are given, and the rest one turn."""
    length = len(tokens)
    return Edge(
        id=number,
        parent=parent,
        agent=agent,
        kind=kind,
        tokens=tuple(tokens),
        sampled=(False,) * given + (True,) * (length - given),
        logprobs=(None,) * given + (-0.25,) * (length - given),
        versions=(Versions(start=given, end=length, version="7"),),
        turns=(Turn(start=given, end=length, finish="stop", prompt=given),),
    )


def rollout(name: str, group: str, score: float, edges: list[Edge], members: list[Member]) -> Rollout:
    """A finished one, graded as a whole."""
    last = {one.agent: one.id for one in edges}
    return Rollout(
        head=Head(
            v=VERSION,
            id=name,
            task=group,
            group=group,
            run="r",
            prompt="add it up",
            outcome=Outcome.FINISHED,
            result="42",
            members=tuple(members),
            leaves=tuple(Leaf(edge=number, agent=agent) for agent, number in last.items()),
            terms=(Term(name="right", agent="a0", score=score, shared=True),),
            model="seedling",
        ),
        edges=tuple(edges),
    )


def alone(name: str, score: float, group: str = "t") -> Rollout:
    """One agent, one turn: tokens 1 to 5, of which 4 and 5 are sampled."""
    members = [Member(id="a0", parent=None, kind="root", task="it")]
    return rollout(name, group, score, [edge(0, None, "a0", "root", [1, 2, 3, 4, 5], 3)], members)


def forking(name: str, score: float, random: Random, *, trunk: int, branch: int, ways: int, group: str) -> Rollout:
    """A root that works on `trunk` tokens and forks `ways` ways, each `branch` tokens long; half are sampled."""

    def some(count: int) -> list[int]:
        return [random.randrange(1000, 150_000) for _ in range(count)]

    members = [Member(id="a0", parent=None, kind="root", task="all")]
    edges = [edge(0, None, "a0", "root", some(trunk), trunk // 2)]
    for number in range(1, ways + 1):
        agent = f"a{number}"
        members.append(Member(id=agent, parent="a0", kind="fork", task=f"part {number}"))
        edges.append(edge(number, 0, agent, "fork", some(branch), branch // 2))
    edges.append(edge(ways + 1, 0, "a0", "continued", some(branch), branch // 2))
    return rollout(name, group, score, edges, members)
