"""What credit costs: a tree of 10,000 segments, from rewards to coefficients, and from there to rows.

    python -m benchmarks.credit [--edges 10000] [--attempts 8] [--rounds 5]

A group of attempts, the first of which is a tree with that many edges, forked at random by the seed (every fourth agent
is spawned, every tenth turn has a term of its own); the others are single agents. Prints one JSON object: for each
estimator the median milliseconds for the whole group, rewards included; the rows of the large tree a second, their
contexts built; and how many tokens are trained over how many there would be in independent rollouts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from random import Random

from runtime.rollouts.credit import ESTIMATORS, replaying, rows, segment
from runtime.rollouts.schema import Edge, Head, Leaf, Member, Rollout, Term, Turn

TOKENS = 16  # of an edge: half given, half sampled


def edge(number: int, parent: int | None, agent: str, kind: str, called: int | None = None) -> Edge:
    """One turn; `called` is the edge whose turn made it."""
    half = TOKENS // 2
    call = None if called is None else (half, TOKENS)
    return Edge(
        id=number,
        parent=parent,
        agent=agent,
        kind=kind,
        tokens=tuple(range(TOKENS)),
        sampled=(False,) * half + (True,) * half,
        logprobs=(None,) * half + (-0.5,) * half,
        turns=(Turn(start=half, end=TOKENS, finish="stop"),),
        decision=call if parent is not None else None,
        decided=(called, *call) if called is not None and call is not None and parent is None else None,
    )


def attempt(name: str, edges: int, rng: Random, info: dict[str, str] | None = None) -> Rollout:
    """Agents that fork in two until there are so many edges; a fork is two more of them."""
    members = [Member(id="a0", parent=None, kind="root", task="t")]
    made = [edge(0, None, "a0", "root")]
    heads = {"a0": 0}
    while len(made) + 2 <= edges:
        parent = members[rng.randrange(len(members))]
        name_of, cut, fresh = f"a{len(members)}", heads[parent.id], len(members) % 4 == 0
        kind = "spawn" if fresh else "fork"
        members.append(Member(id=name_of, parent=parent.id, kind=kind, task="t", depth=parent.depth + 1))
        heads[name_of] = len(made)
        made.append(edge(len(made), None if fresh else cut, name_of, kind, cut))
        heads[parent.id] = len(made)
        made.append(edge(len(made), cut, parent.id, "continued", cut))
    terms = [Term(name="own", agent=one.id, score=rng.random()) for one in members]
    terms += [Term(name="step", agent=one.agent, score=rng.random(), step=(one.id, 0)) for one in made[::10]]
    head = Head(
        v=1,
        id=name,
        task="task",
        group="group",
        run="run",
        prompt="",
        outcome=None,
        result="",
        members=tuple(members),
        leaves=tuple(Leaf(edge=at, agent=agent) for agent, at in heads.items()),
        terms=(*terms, Term(name="all", agent="a0", score=rng.random(), shared=True)),
        info=info or {},
    )
    return Rollout(head=head, edges=tuple(made))


def milliseconds(rounds: int, work: Callable[[], object]) -> float:
    """The median of so many rounds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=10_000)
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rng = Random(0)
    large = attempt("large", arguments.edges, rng)
    group = [large, *(attempt(f"small{number}", 1, rng) for number in range(1, arguments.attempts))]
    group += [attempt(f"replay{at}", 1, rng, replaying("large", at, TOKENS // 2)) for at in range(4)]
    out: dict[str, object] = {"benchmark": "credit", "segments": len(large.edges), "leaves": len(large.head.leaves)}
    for name, estimate in ESTIMATORS.items():
        out[f"{name}_ms"] = round(milliseconds(arguments.rounds, partial(estimate, group)), 1)
    credit = segment(group)[0]
    out["rows"] = count = sum(1 for _ in rows(large, credit))
    spent = milliseconds(arguments.rounds, lambda: [None for _ in rows(large, credit)])
    out["rows_a_second"] = round(count / spent * 1e3)
    unique = sum(sum(one.sampled) for one in large.edges)
    lengths: dict[int | None, int] = {None: 0}
    for one in large.edges:
        lengths[one.id] = lengths[one.parent] + sum(one.sampled)
    flat = sum(lengths[leaf.edge] for leaf in large.head.leaves)
    out |= {"unique_tokens": unique, "flat_tokens": flat, "unique_over_flat": round(unique / flat, 4)}
    print(json.dumps(out))


if __name__ == "__main__":
    main()
