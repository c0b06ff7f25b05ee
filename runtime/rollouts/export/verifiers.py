"""verifiers (v1) and prime-rl: one `Episode` a rollout; in it one `Trace` for each context that began afresh.

The root and its forks are branches of one trace, which holds every shared token once; a spawned agent's context has
none of its parent's tokens and is a trace of its own. A node is one message; advantages lie on nodes, one for each
sampled token, and each node is trained once, so coefficients need no scale. What an agent that is not trained sampled
is not in the mask (a trace has one `trainable` for all its agents), and its log-probabilities are then left out.
`info.ramet` says which node ends which edge, and what the format has no place for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from agents.host import Outcome
from runtime.rollouts.credit import Credit
from runtime.rollouts.credit.shares import spans_of
from runtime.rollouts.export._batch import Batch, Decode, Line, Run, runs, worth
from runtime.rollouts.schema import Edge, Head, Member, Rollout

__all__ = ["lines"]

_FINISH = {"stop": "stop", "length": "length"}


def lines(batch: Batch) -> Iterator[Line]:
    """The episodes of a group."""
    for rollout, credit in zip(batch.rollouts, batch.credits, strict=True):
        head = rollout.head
        ok = head.outcome is Outcome.FINISHED and not head.error
        yield {
            "id": head.id,
            "env": {"id": "ramet"},
            "task": _task(head),
            "group": {"id": head.group},
            "ok": ok,
            "errors": [{"type": "RolloutFailed", "message": head.error}] if head.error else [],
            "traces": [
                _Trace(rollout, credit, edges, batch.decode).line(ok, first=number == 0)
                for number, edges in enumerate(_contexts(rollout.edges))
            ],
        }


def _contexts(edges: tuple[Edge, ...]) -> list[list[Edge]]:
    """The edges of each tree, parents first."""
    roots: dict[int, int] = {}
    trees: dict[int, list[Edge]] = defaultdict(list)
    for edge in edges:
        roots[edge.id] = edge.id if edge.parent is None else roots[edge.parent]
        trees[roots[edge.id]].append(edge)
    return list(trees.values())


def _task(head: Head) -> Line:
    return {"type": "ramet", "key": head.task, "data": {"id": head.task, "prompt": head.prompt}}


class _Trace:
    def __init__(self, rollout: Rollout, credit: Credit, edges: list[Edge], decode: Decode) -> None:
        self.head = rollout.head
        self.edges = edges
        self.decode = decode
        self.members = {member.id: member for member in rollout.head.members}
        self.nodes: list[Line] = []
        self.calls: list[Line] = []
        self.last: dict[int, int] = {}  # the node that ends an edge
        spans = spans_of(credit)
        for edge in edges:
            at = None if edge.parent is None else self.last[edge.parent]
            values = worth(edge, credit, spans)
            for run in runs(edge):
                self._add(edge, run, at, values)
                at = len(self.nodes) - 1
            self.last[edge.id] = len(self.nodes) - 1

    def _add(self, edge: Edge, run: Run, parent: int | None, values: list[float] | None) -> None:
        tokens = edge.tokens[run.start : run.end]
        trained = run.sampled and self.members[edge.agent].trainable
        node: dict[str, object] = {
            "parent": parent,
            "message": {"role": "assistant" if run.sampled else "user", "content": self.decode(tokens)},
            "sampled": run.sampled,
            "timestamp": 0.0,
            "token_ids": tokens,
            "mask": [trained] * len(tokens),
        }
        if trained:
            node["logprobs"] = [lp or 0.0 for lp in edge.logprobs[run.start : run.end]]
            if values is not None:
                node["advantages"] = values[run.start : run.end]
        self.nodes.append(node)
        if run.turn is not None and run.end == run.turn.end:
            self.calls.append(
                {
                    "node": len(self.nodes) - 1,
                    "model": self.head.model,
                    "finish_reason": _FINISH.get(run.turn.finish),
                    "usage": {
                        "prompt_tokens": max(0, run.turn.prompt - run.turn.cached),
                        "completion_tokens": run.turn.end - run.turn.start,
                        "cached_input_tokens": run.turn.cached,
                    },
                    "time": {"start": 0.0, "end": run.turn.seconds},
                }
            )

    def line(self, ok: bool, *, first: bool) -> Line:
        owner = self.members[self.edges[0].agent]
        mine = {edge.id for edge in self.edges}
        info: dict[str, object] = {
            "edges": [
                {
                    "id": edge.id,
                    "node": self.last[edge.id],
                    "agent": edge.agent,
                    "kind": edge.kind,
                    "versions": edge.versions,
                    "decision": edge.decision,
                    "decided": edge.decided,
                }
                for edge in self.edges
            ],
            "leaves": [leaf for leaf in self.head.leaves if leaf.edge in mine],
        }
        if first:  # once a rollout
            info |= {"members": self.head.members, "terms": self.head.terms, "info": self.head.info}
        return {
            "id": f"{self.head.id}:{self.edges[0].id}",
            "task": _task(self.head),
            "agent": {
                "name": owner.role or owner.kind,
                "trainable": owner.trainable,
                "config": {"model": self.head.model or None, "runtime": {"type": "subprocess"}},
            },
            "nodes": self.nodes,
            "calls": self.calls,
            "rewards": self._rewards(owner),
            "info": {"ramet": msgspec.to_builtins(info)},
            "root_reply": owner.result,
            "is_completed": True,
            "ok": ok,
            "stop_condition": None if owner.outcome is None else str(owner.outcome),
        }

    def _rewards(self, owner: Member) -> Line:
        """The outcome terms of the agent whose context it is: its own, and those it shares with all above it."""
        above = {owner.id}
        while (parent := self.members[owner.id].parent) is not None and parent not in above:
            above.add(parent)
            owner = self.members[parent]
        out: dict[str, object] = {}
        for number, term in enumerate(self.head.terms):
            own = term.agent == self.edges[0].agent
            if term.step is None and (own or (term.shared and term.agent in above)):
                name = f"{term.name}#{number}" if term.name in out else term.name
                out[name] = None if term.score is None else {"score": term.score, "weight": term.weight}
        return out
