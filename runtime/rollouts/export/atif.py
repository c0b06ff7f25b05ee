"""ATIF v1.7: one `Trajectory` a rollout, the root agent's; all other paths are in its `subagent_trajectories`.

A trajectory is a straight line, so the tree is cut into lines: each leaf's path up to where another line already has
it. ATIF has no word for a fork: `extra.fork` says from which step of which trajectory a line goes on, and how many
tokens stand before it; nothing is stored twice. Steps hold their own tokens only (`metrics.prompt_token_ids` would
repeat the prompt at every step): the agent's in `metrics.completion_token_ids`, given ones in `extra.token_ids`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import msgspec

from runtime.rollouts.credit import Credit
from runtime.rollouts.credit.shares import spans_of
from runtime.rollouts.export._batch import Batch, Decode, Line, Run, runs, worth
from runtime.rollouts.schema import Edge, Rollout

__all__ = ["lines"]

SCHEMA = "ATIF-v1.7"


def lines(batch: Batch) -> Iterator[Line]:
    """The trajectories of a group."""
    for rollout, credit in zip(batch.rollouts, batch.credits, strict=True):
        if rollout.edges:  # a rollout that failed before its first token is no trajectory
            yield _Document(rollout, credit, batch.decode).line()


class _Document:
    def __init__(self, rollout: Rollout, credit: Credit, decode: Decode) -> None:
        self.rollout = rollout
        self.credit = credit
        self.spans = spans_of(credit)
        self.decode = decode
        self.members = {member.id: member for member in rollout.head.members}
        # Where each edge ends: the name of its line, the number of its last step there, the tokens up to there.
        self.ends: dict[int, tuple[str, int, int]] = {}
        self.steps: dict[str, list[dict[str, object]]] = {}
        self.extra: dict[str, dict[str, object]] = {}

    def line(self) -> Line:
        head = self.rollout.head
        first, *others = [self._trajectory(chain) for chain in _chains(self.rollout)]
        extra = {
            "group": head.group,
            "task": head.task,
            "outcome": head.outcome,
            "result": head.result,
            "members": head.members,
            "leaves": head.leaves,
            "terms": head.terms,
            "info": head.info,
            "error": head.error,
            "dropped": head.dropped,
        }
        out = first | {"extra": {**self.extra[str(first["trajectory_id"])], "ramet": msgspec.to_builtins(extra)}}
        return out | {"subagent_trajectories": others} if others else out

    def _trajectory(self, chain: list[Edge]) -> dict[str, object]:
        edge = chain[0]
        member = self.members[chain[-1].agent]
        name = f"{member.id}:{chain[-1].id}"
        steps = self.steps[name] = []
        made = [{"id": one.id, "kind": one.kind, "decision": one.decision, "decided": one.decided} for one in chain]
        extra = self.extra[name] = {"agent": member.id, "kind": edge.kind, "edges": made}
        offset = 0
        if edge.parent is not None:
            of, step, offset = self.ends[edge.parent]
            extra["fork"] = {
                "parent_trajectory_id": of,
                "parent_step_id": step,
                "token_offset": offset,
                "kind": edge.kind,
            }
            if step:
                self._mention(self.steps[of][step - 1], name)
        for edge in chain:
            for run in runs(edge):
                if run.end > run.start:
                    steps.append(self._step(edge, run, len(steps) + 1))
            offset += len(edge.tokens)
            self.ends[edge.id] = (name, len(steps), offset)
        return {
            "schema_version": SCHEMA,
            "session_id": self.rollout.head.id,
            "trajectory_id": name,
            "agent": {
                "name": member.role or member.kind,
                "version": _version(),
                "model_name": self.rollout.head.model or None,
            },
            "steps": steps,
            "extra": extra,
        }

    def _step(self, edge: Edge, run: Run, number: int) -> dict[str, object]:
        tokens = edge.tokens[run.start : run.end]
        text = self.decode(tokens)
        own: dict[str, object] = {"edge": edge.id}
        if not run.sampled:
            return {"step_id": number, "source": "user", "message": text, "extra": own | {"token_ids": tokens}}
        metrics: dict[str, object] = {
            "completion_tokens": len(tokens),
            "completion_token_ids": tokens,
            "logprobs": [lp or 0.0 for lp in edge.logprobs[run.start : run.end]],
        }
        if run.turn is not None:
            metrics |= {"prompt_tokens": run.turn.prompt, "cached_tokens": run.turn.cached}
            own["finish"] = run.turn.finish
        if (values := worth(edge, self.credit, self.spans)) is not None:
            own["advantages"] = values[run.start : run.end]
        own["versions"] = [one.version for one in edge.versions if one.start < run.end and run.start < one.end]
        return {"step_id": number, "source": "agent", "message": text, "metrics": metrics, "extra": own}

    @staticmethod
    def _mention(step: dict[str, object], name: str) -> None:
        """A step that branches off to others names them, as a step that delegates does."""
        seen = step.setdefault("observation", {"results": [{"subagent_trajectory_ref": []}]})
        seen["results"][0]["subagent_trajectory_ref"].append({"trajectory_id": name})  # type: ignore[index]


def _chains(rollout: Rollout) -> list[list[Edge]]:
    """The tree as lines: for each leaf, those that go on before those left behind, what no line has yet."""
    by_id = {edge.id: edge for edge in rollout.edges}
    ends = [leaf.edge for leaf in sorted(rollout.head.leaves, key=lambda leaf: leaf.abandoned)]
    ends += [edge.id for edge in reversed(rollout.edges)]  # an edge above no leaf has a line as well
    taken: set[int] = set()
    chains = []
    for end in ends:
        chain: list[Edge] = []
        at: int | None = end
        while at is not None and at not in taken:
            taken.add(at)
            chain.append(by_id[at])
            at = by_id[at].parent
        if chain:
            chains.append(chain[::-1])
    # A line is told after the one it goes on from: edges are parents first.
    order = {edge.id: number for number, edge in enumerate(rollout.edges)}
    return sorted(chains, key=lambda chain: order[chain[0].id])


def _version() -> str:
    try:
        return version("ramet")
    except PackageNotFoundError:
        return "source"
