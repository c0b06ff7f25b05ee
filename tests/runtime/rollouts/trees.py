"""Rollouts for tests: grown by hand as a run grows them, or at random, and put into another order."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from runtime.rollouts.credit import REPLAYS, REPLAYS_DECISION, replaying
from runtime.rollouts.credit.decision import call_of
from runtime.rollouts.schema import Edge, Head, Leaf, Member, Rollout, Term, Turn, Versions

VOCABULARY = 12


class Growing:
    """A rollout that grows. Agents are named a0, a1, ... in the order in which they are made; edges are numbered so."""

    def __init__(
        self, name: str, *, group: str = "g", rng: Random | None = None, most_turns: int = 1, **root: Any
    ) -> None:
        self.rng = rng or Random(0)
        self.most_turns = most_turns  # of an edge
        self.name, self.group = name, group
        self.members: dict[str, Member] = {}
        self.edges: list[Edge] = []
        self.heads: dict[str, int] = {}
        self.left: list[Leaf] = []
        self.terms: list[Term] = []
        self.new(None, "root", None, **root)

    def new(self, parent: str | None, kind: str, at: int | None, called: int | None = None, **member: Any) -> str:
        """A new agent whose first edge goes on from the edge `at`; `called`: the edge whose last turn made it."""
        name = f"a{len(self.members)}"
        depth = 0 if parent is None else self.members[parent].depth + 1
        fields = {"task": "t", "depth": depth, **member}
        self.members[name] = Member(id=name, parent=parent, kind=kind, **fields)
        self.heads[name] = self.edge(at, name, kind, called=called)
        return name

    def edge(self, parent: int | None, agent: str, kind: str, turns: int = 0, called: int | None = None) -> int:
        """An edge of turns: some given tokens, then some sampled ones."""
        sampled: list[bool] = []
        spans: list[Turn] = []
        for _ in range(turns or self.rng.randint(1, self.most_turns)):
            sampled += [False] * self.rng.randint(1, 3)
            start = len(sampled)
            sampled += [True] * self.rng.randint(2, 4)
            spans.append(Turn(start=start, end=len(sampled), finish="stop"))
        call = self.edges[called].turns[-1] if called is not None else None
        self.edges.append(
            Edge(
                id=len(self.edges),
                parent=parent,
                agent=agent,
                kind=kind,
                tokens=tuple(self.rng.randrange(VOCABULARY) for _ in sampled),
                sampled=tuple(sampled),
                logprobs=tuple(-self.rng.random() - 0.01 if mine else None for mine in sampled),
                versions=tuple(Versions(start=one.start, end=one.end, version=self.version()) for one in spans),
                turns=tuple(spans),
                decision=(call.start, call.end) if call and called == parent else None,
                decided=(called, call.start, call.end) if call and called is not None and called != parent else None,
            )
        )
        return self.edges[-1].id

    def version(self) -> str:
        """Of the weights that sampled a turn: where edges have several turns they may change."""
        return "w1" if self.most_turns == 1 else self.rng.choice(("w1", "w2"))

    def fork(self, agent: str, copies: int = 1, **member: Any) -> list[str]:
        """The agent's edge ends here; each copy and the agent itself go on from it."""
        cut = self.heads[agent]
        made = [self.new(agent, "fork", cut, cut, **member) for _ in range(copies)]
        self.heads[agent] = self.edge(cut, agent, "continued", called=cut)
        return made

    def fork_post_hoc(self, agent: str, **member: Any) -> str:
        """A copy that goes on from the edge before the agent's present one, which decided it and goes on."""
        head = self.heads[agent]
        return self.new(agent, "fork", self.edges[head].parent, head, **member)

    def spawn(self, agent: str, *, called: bool = False, **member: Any) -> str:
        """A newcomer with a context of its own; `called` by the last turn of the agent's edge."""
        return self.new(agent, "spawn", None, self.heads[agent] if called else None, **member)

    def host(self, newcomer: str, **member: Any) -> str:
        """A fork of whoever started the newcomer, which answers it."""
        author = self.members[newcomer].parent
        assert author is not None
        cut = self.heads[author]
        self.heads[author] = self.edge(cut, author, "continued")
        return self.new(newcomer, "host", cut, **member)

    def rewind(self, agent: str) -> None:
        """The agent leaves its edge, if that is not its context's first, and goes on from the one before."""
        left = self.heads[agent]
        if (parent := self.edges[left].parent) is not None:
            self.left.append(Leaf(edge=left, agent=agent, abandoned=True))
            self.heads[agent] = self.edge(parent, agent, "rewind")

    def earn(self, agent: str, score: float | None, **term: Any) -> None:
        """A term."""
        self.terms.append(Term(**{"name": "n", "agent": agent, "score": score, **term}))

    def done(self, **head: Any) -> Rollout:
        """The rollout."""
        return Rollout(
            head=Head(
                v=1,
                id=self.name,
                task="task",
                group=self.group,
                run="run",
                prompt="p",
                outcome=None,
                result="",
                members=tuple(self.members.values()),
                leaves=(*self.left, *(Leaf(edge=edge, agent=agent) for agent, edge in self.heads.items())),
                terms=tuple(self.terms),
                **head,
            ),
            edges=tuple(self.edges),
        )


def grow(rng: Random, name: str, *, plain: bool = False) -> Rollout:
    """A random attempt. `plain`: forks and spawns only, every agent trained and scored once, on its own."""
    tree = Growing(name, rng=rng, most_turns=3)
    for _ in range(rng.randrange(7)):
        agent = rng.choice(list(tree.members))
        match rng.randrange(4 if plain else 9):
            case 0 | 1 | 2:
                tree.fork(agent, rng.randint(1, 3), role=rng.choice(["", "scout"]))
            case 3:
                told = {"spec": rng.choice(["", "short", "long"]), "task": rng.choice(["north", "south"])}
                tree.spawn(agent, called=rng.random() < 0.5, **told)
            case 4:
                tree.rewind(agent)
            case 5 if tree.members[agent].kind == "spawn":
                tree.host(agent)
            case 6:
                tree.new(agent, "review", None)
            case 7 if tree.edges[tree.heads[agent]].parent is not None:
                tree.fork_post_hoc(agent)
            case _:
                tree.fork(agent, 1, trainable=False)
    for agent in list(tree.members):
        if plain:
            tree.earn(agent, rng.randint(-8, 8) / 8)
            continue
        for shared in (False, True):
            if rng.random() < 0.6:
                score = None if rng.random() < 0.05 else rng.random()
                tree.earn(agent, score, shared=shared, weight=rng.choice([0.3, 1.0]))
    if not plain:
        for edge in tree.edges:
            if rng.random() < 0.2:
                tree.earn(edge.agent, rng.random(), step=(edge.id, rng.randrange(len(edge.turns))))
    return tree.done(dropped="leaked" if not plain and rng.random() < 0.1 else "")


def grow_group(rng: Random, *, plain: bool = False) -> list[Rollout]:
    """One to four random attempts; if not plain, maybe with replays of one of their forks."""
    group = [grow(rng, f"r{number}", plain=plain) for number in range(rng.randint(1, 4))]
    calls = [(one.head.id, call) for one in group for edge in one.edges if (call := call_of(edge)) is not None]
    if calls and not plain and rng.random() < 0.7:
        of, (edge, start, _) = rng.choice(calls)
        info = replaying(of, edge, start)
        for number in range(rng.randint(1, 2)):
            replay = Growing(f"replay{number}", rng=rng)
            replay.earn("a0", rng.random())
            group.append(replay.done(info=info))
    return group


def reordered(rng: Random, group: Sequence[Rollout]) -> tuple[list[Rollout], dict[str, dict[int, int]]]:
    """The same group as if all in it had ended in another order, and for each rollout the old numbers by the new."""
    renamed: dict[str, dict[int, int]] = {}
    for rollout in group:
        waiting = list(rollout.edges)
        order: dict[int | None, int | None] = {None: None}
        while waiting:
            edge = rng.choice([one for one in waiting if one.parent in order])
            order[edge.id] = len(order) + 5
            waiting.remove(edge)
        renamed[rollout.head.id] = {old: new for old, new in order.items() if old is not None and new is not None}
    out: list[Rollout] = []
    for rollout in group:
        new = renamed[rollout.head.id]
        by_old = {edge.id: edge for edge in rollout.edges}
        edges = []
        for old, number in sorted(new.items(), key=lambda item: item[1]):
            was = by_old[old]
            parent = None if was.parent is None else new[was.parent]
            decided = None if was.decided is None else (new[was.decided[0]], *was.decided[1:])
            edges.append(msgspec.structs.replace(was, id=number, parent=parent, decided=decided))
        terms = [
            term if term.step is None else msgspec.structs.replace(term, step=(new[term.step[0]], term.step[1]))
            for term in rollout.head.terms
        ]
        info = dict(rollout.head.info)
        if REPLAYS in info:
            edge, _, start = info[REPLAYS_DECISION].partition(":")
            info = replaying(info[REPLAYS], renamed[info[REPLAYS]][int(edge)], int(start))
        head = msgspec.structs.replace(
            rollout.head,
            members=_shuffled(rng, rollout.head.members),
            leaves=_shuffled(rng, [msgspec.structs.replace(leaf, edge=new[leaf.edge]) for leaf in rollout.head.leaves]),
            terms=_shuffled(rng, terms),
            info=info,
        )
        out.append(Rollout(head=head, edges=tuple(edges)))
    return list(_shuffled(rng, out)), {name: {n: o for o, n in new.items()} for name, new in renamed.items()}


def _shuffled(rng: Random, items: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(rng.sample(items, len(items)))
