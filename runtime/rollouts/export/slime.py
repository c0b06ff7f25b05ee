"""slime: one `Sample` a row, in the form that `Sample.to_dict` gives and `Sample.from_dict` takes.

All rows of one root share its `rollout_id`, so that slime weighs roots and not rows and counts one rollout for each;
those of one task share `group_index`. `reward` is a dict on purpose: train with `--reward-key advantage
--disable-rewards-normalization` and `--advantage-estimator grpo` (whose advantage is then the reward), and a run that
forgets the key fails at once instead of comparing parts of one tree as if they were attempts.
"""

from __future__ import annotations

from collections.abc import Iterator

from runtime.rollouts.credit import Row, attempt, rows
from runtime.rollouts.export._batch import Batch, Line, root_scale
from runtime.rollouts.schema import Edge, Member, Rollout

__all__ = ["lines"]

_STATUS = {"length": "truncated", "abort": "aborted"}


def lines(batch: Batch) -> Iterator[Line]:
    """The samples of a group."""
    for number, (rollout, credit) in enumerate(zip(batch.rollouts, batch.credits, strict=True), batch.first):
        scale = root_scale(rollout, credit)
        value = attempt(rollout).value
        edges = {edge.id: edge for edge in rollout.edges}
        members = {member.id: member for member in rollout.head.members}
        for row in rows(rollout, credit):
            yield {
                "group_index": batch.number,
                "index": next(batch.count),
                "rollout_id": number,
                **_sample(rollout, row, edges[row.edge], batch),
                "reward": {"advantage": row.advantage * scale, "raw": value},
                "metadata": {"raw_reward": value, **_origin(row, edges[row.edge], members[row.agent])},
            }


def _sample(rollout: Rollout, row: Row, edge: Edge, batch: Batch) -> Line:
    response = row.tokens[row.prompt :]
    return {
        "prompt": rollout.head.prompt,
        "tokens": row.tokens,
        "response": batch.decode(response),
        "response_length": len(response),
        "loss_mask": [int(one) for one in row.mask[row.prompt :]],
        "rollout_log_probs": row.logprobs[row.prompt :],
        "weight_versions": row.versions,
        "status": _STATUS.get(edge.turns[-1].finish if edge.turns else "", "completed"),
        "session_id": f"{rollout.head.id}/{row.agent}",
        "prefix_cache_info": {
            "cached_tokens": sum(turn.cached for turn in edge.turns),
            "total_prompt_tokens": sum(turn.prompt for turn in edge.turns),
        },
    }


def _origin(row: Row, edge: Edge, member: Member) -> Line:
    return {
        "rollout": row.rollout,
        "group": row.group,
        "edge": row.edge,
        "parent": edge.parent,
        "kind": edge.kind,
        "agent": row.agent,
        "role": member.role,
        "coefficient": row.advantage,
    }
