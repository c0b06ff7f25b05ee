"""TRL: one `RolloutSample` of its asynchronous GRPO a line, what a rollout worker puts on the trainer's queue.

The advantage is ready, rows of any number make a group, and rows of one `group_id` share prefixes in TRL's packing. The
three token sequences are arrays there, lists here. TRL divides by the trained tokens of a step, so the scale is the
group's. It keeps one version of the weights a row: the oldest that sampled any of it, 0 where versions are no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from runtime.rollouts.credit import attempt, rows
from runtime.rollouts.export._batch import Batch, Line, group_scale, numbers

__all__ = ["lines"]


def lines(batch: Batch) -> Iterator[Line]:
    """The samples of a group."""
    scale = group_scale(batch)
    for rollout, credit in zip(batch.rollouts, batch.credits, strict=True):
        value = attempt(rollout).value
        for row in rows(rollout, credit):
            yield {
                "prompt": [{"role": "user", "content": rollout.head.prompt}],
                "completion": [{"role": "assistant", "content": batch.decode(row.tokens[row.prompt :])}],
                "input_ids": row.tokens,
                "completion_mask": [int(one) for one in row.mask],
                "old_log_probs": row.logprobs,
                "advantage": row.advantage * scale,
                "model_version": min(numbers(row.versions), default=0),
                "group_id": batch.number,
                "metrics": {"reward": value, "coefficient": row.advantage},
            }
