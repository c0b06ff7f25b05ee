"""verl, V1: one row of its TransferQueue a line: the key `{uid}_{session_id}_{index}`, an `AgentLoopOutput`, the tags.

`uid` is the task's group, a session one root, an index one row of it. `reward_score` is the row's advantage. verl's own
GRPO looks at the last row of each session alone, so train with an estimator that takes each row's score as it is
(`@register_adv_est`, six lines: ADR 0016): all estimators but GRPO are handed every row. verl divides by the tokens of
the batch (`loss_agg_mode: token-mean`), so the scale is the group's.
"""

from __future__ import annotations

from collections.abc import Iterator

from runtime.rollouts.credit import attempt, rows
from runtime.rollouts.export._batch import Batch, Line, group_scale, numbers

__all__ = ["lines"]


def lines(batch: Batch) -> Iterator[Line]:
    """The rows of a group."""
    scale = group_scale(batch)
    for session, (rollout, credit) in enumerate(zip(batch.rollouts, batch.credits, strict=True)):
        value = attempt(rollout).value
        edges = {edge.id: edge for edge in rollout.edges}
        for index, row in enumerate(rows(rollout, credit)):
            edge = edges[row.edge]
            steps = numbers(row.versions)
            span = {"min_global_steps": min(steps, default=None), "max_global_steps": max(steps, default=None)}
            yield {
                "key": f"{row.group}_{session}_{index}",
                "uid": row.group,
                "session_id": session,
                "index": index,
                "output": {
                    "prompt_ids": row.tokens[: row.prompt],
                    "response_ids": row.tokens[row.prompt :],
                    "response_mask": [int(one) for one in row.mask[row.prompt :]],
                    "response_logprobs": row.logprobs[row.prompt :],
                    "reward_score": row.advantage * scale,
                    "num_turns": len(edge.turns),
                    "metrics": {"generate_sequences": sum(turn.seconds for turn in edge.turns)},
                    "extra_fields": {
                        **span,
                        "raw_reward": value,
                        "rollout": row.rollout,
                        "edge": row.edge,
                        "agent": row.agent,
                        "kind": edge.kind,
                        "coefficient": row.advantage,
                    },
                },
                "tag": {
                    "status": "success",
                    "prompt_len": row.prompt,
                    "response_len": len(row.tokens) - row.prompt,
                    "seq_len": len(row.tokens),
                    **span,
                },
            }
