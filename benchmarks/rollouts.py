"""What training and exporting forked rollouts costs: groups of 8 roots that each fork 4 ways.

Prints one JSON object. `saved` is the part of tokens that need not be trained because shared prefixes are trained once;
`unique_over_flat` of all tokens, `trained_over_flat` of sampled ones. For each format, exported to nowhere from a file,
reading and credit included, on one core: distinct tokens of the file a second, rows a second, bytes of the export a
distinct token. `credit_ms`: a tree of 10,000 edges from rewards to coefficients. Trees are synthetic (a trunk and
branches of random tokens, half of them sampled); only their shape matters here.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from random import Random

from agents.host import Outcome
from runtime.rollouts.credit import ESTIMATORS, segment
from runtime.rollouts.export import FORMATS, export
from runtime.rollouts.schema import VERSION, Edge, Head, Leaf, Member, Rollout, Term, read_rollouts, write_rollout
from tests.runtime.rollouts.export.made import forking

ROOTS, WAYS = 8, 4
TARGET = 50_000  # tokens a second, on one core


class Nowhere(io.RawIOBase):
    """Counts what is written."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.size += len(data)
        return len(data)


def chain(edges: int, random: Random) -> Rollout:
    """A tree of that many edges, each below one of the ten before it."""
    members = [Member(id="a0", parent=None, kind="root", task="")]
    made = [Edge(id=0, parent=None, agent="a0", kind="root", tokens=(1,), sampled=(True,), logprobs=(-1.0,))]
    for number in range(1, edges):
        parent = made[-random.randrange(1, min(10, number) + 1)]
        members.append(Member(id=f"a{number}", parent=parent.agent, kind="fork", task=""))
        made.append(
            Edge(
                id=number,
                parent=parent.id,
                agent=f"a{number}",
                kind="fork",
                tokens=(1,),
                sampled=(True,),
                logprobs=(-1.0,),
            )
        )
    head = Head(
        v=VERSION,
        id="big",
        task="t",
        group="t",
        run="",
        prompt="",
        outcome=Outcome.FINISHED,
        result="",
        members=tuple(members),
        leaves=tuple(Leaf(edge=edge.id, agent=edge.agent) for edge in made),
        terms=tuple(Term(name="own", agent=member.id, score=random.random()) for member in members),
    )
    return Rollout(head=head, edges=tuple(made))


def tokens(path: Path) -> dict[str, int]:
    """Distinct and flat tokens of a file, and of those the sampled ones."""
    counted = dict.fromkeys(("unique", "flat", "unique_sampled", "flat_sampled"), 0)
    for rollout in read_rollouts(path):
        counted["unique"] += sum(len(edge.tokens) for edge in rollout.edges)
        counted["unique_sampled"] += sum(sum(edge.sampled) for edge in rollout.edges)
        for leaf in rollout.head.leaves:
            counted["flat"] += sum(len(edge.tokens) for edge in rollout.path(leaf.edge))
            counted["flat_sampled"] += sum(sum(edge.sampled) for edge in rollout.path(leaf.edge))
    return counted


def exporting(path: Path, to: str, distinct: int, repeats: int) -> dict[str, float]:
    """The median of several exports."""
    seconds = []
    for _ in range(repeats):
        sink = Nowhere()
        started = time.process_time()
        counts = export(path, to, sink, complain=print)  # type: ignore[arg-type]
        seconds.append(time.process_time() - started)
    took = statistics.median(seconds)
    return {
        "tokens_per_s": round(distinct / took),
        "lines_per_s": round(counts.lines / took),
        "bytes_per_token": round(sink.size / distinct, 2),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--trunk", type=int, default=4000)
    parser.add_argument("--branch", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    random = Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rollouts.jsonl"
        with path.open("wb") as file:
            for group in range(options.groups):
                for root in range(ROOTS):
                    write_rollout(
                        file,
                        forking(
                            f"{group}/{root}",
                            float(root % 2),
                            random,
                            trunk=options.trunk,
                            branch=options.branch,
                            ways=WAYS,
                            group=f"g{group}",
                        ),
                    )
        counted = tokens(path)
        formats = {to: exporting(path, to, counted["unique"], options.repeats) for to in FORMATS}
    big = chain(10_000, random)
    took = {}
    for name in ("segment", "tree", "rao"):
        started = time.process_time()
        ESTIMATORS[name]([big])
        took[name] = round(1000 * (time.process_time() - started), 1)
    assert segment([big])[0].edges
    figures = {
        "benchmark": "rollouts",
        "roots": ROOTS,
        "ways": WAYS,
        "groups": options.groups,
        "trunk_tokens": options.trunk,
        "branch_tokens": options.branch,
        "unique_tokens": counted["unique"],
        "unique_over_flat": round(counted["unique"] / counted["flat"], 4),
        "trained_over_flat": round(counted["unique_sampled"] / counted["flat_sampled"], 4),
        "saved": round(1 - counted["unique_sampled"] / counted["flat_sampled"], 4),
        "formats": formats,
        "slowest_tokens_per_s": min(one["tokens_per_s"] for one in formats.values()),
        "target_tokens_per_s": TARGET,
        "credit_ms": took,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
