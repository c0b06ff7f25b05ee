"""slime: every sample is a swarm that may fork; its rows are the segments of its tree.

    --custom-generate-function-path examples.hooks.slime_generate.generate
    --custom-reward-post-process-path examples.hooks.slime_generate.advantages
    --advantage-estimator grpo --reward-key advantage     (and no --normalize-advantages)

`generate` runs one attempt on slime's own SGLang router and returns one sample for each segment, all with one
`rollout_id`. What a segment is worth depends on the other attempts at its prompt, so `advantages` says that, once the
whole group is there. The result is right where it equals the sample's label; put your own in `rewards`.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from runtime import SGLang
from runtime.records import Settings
from runtime.rollouts import Function, Reward, Rollout, Task
from runtime.rollouts.collect import collect
from runtime.rollouts.export import lines

CREDIT = "segment"
ATTEMPT = "attempt"  # of a sample's metadata: the rollout that it is from; only the first of its samples holds it


def rewards(label: str | None) -> Sequence[Reward]:
    """What an attempt is graded by."""

    def right(rollout: Rollout, directory: Path) -> bool:
        return rollout.head.result.strip() == (label or "").strip()

    return [Function("right", right)]


async def generate(args: Any, sample: Any, sampling_params: dict[str, Any]) -> list[Any]:
    """The samples of one attempt at `sample.prompt`: at least one, a failed one where nothing was trained."""
    prompt = sample.prompt if isinstance(sample.prompt, str) else sample.prompt[-1]["content"]
    task = Task(id=f"{sample.group_index}/{sample.index}", prompt=prompt, group=str(sample.group_index))
    settings = Settings(temperature=sampling_params["temperature"], turn_tokens=sampling_params["max_new_tokens"])
    async with (
        SGLang.connect(f"http://{args.sglang_router_ip}:{args.sglang_router_port}") as engine,
        collect([task], rewards(sample.label), group=1, engine=engine, settings=settings) as collected,
    ):
        (rollout,) = [one async for one in collected]
    # Each attempt was collected by itself, so it is told apart from the others of its group here.
    rollout = structs.replace(rollout, head=structs.replace(rollout.head, id=task.id, attempt=sample.index))
    made = [_row(sample, line) for line in lines("slime", [rollout], credit=CREDIT)]
    if not made:
        nothing = copy.copy(sample)
        nothing.status, nothing.rollout_id = sample.Status.FAILED, sample.index
        # slime wants tokens in every sample; these are masked.
        nothing.tokens, nothing.response_length, nothing.loss_mask = [0, 0], 1, [0]
        nothing.rollout_log_probs, nothing.reward, nothing.remove_sample = [0.0], {"advantage": 0.0, "raw": 0.0}, True
        made = [nothing]
    made[0].metadata = {**(made[0].metadata or {}), ATTEMPT: rollout}
    return made


def _row(sample: Any, line: Any) -> Any:
    row = copy.copy(sample)
    for name, value in line.items():
        if name not in ("group_index", "index", "prompt", "prefix_cache_info"):
            setattr(row, name, value)
    row.status = sample.Status(line["status"])
    row.rollout_id = sample.index
    row.weight_versions = list(line["weight_versions"])
    row.metadata = {**(sample.metadata or {}), **line["metadata"]}
    return row


def advantages(args: Any, samples: list[Any]) -> tuple[list[float], list[float]]:
    """What each sample's attempt earned, and what its segment is worth beside the other attempts of its group."""
    groups: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, sample in enumerate(samples):
        groups[sample.group_index][sample.rollout_id].append(at)
    raw, worth = [0.0] * len(samples), [0.0] * len(samples)
    for roots in groups.values():
        attempts = [samples[rows[0]].metadata[ATTEMPT] for rows in roots.values()]
        own: dict[str, list[Any]] = defaultdict(list)
        for line in lines("slime", attempts, credit=CREDIT):
            own[line["metadata"]["rollout"]].append(line)
        for attempt, rows in zip(attempts, roots.values(), strict=True):
            made = own[attempt.head.id]
            if not made and samples[rows[0]].remove_sample:
                continue
            # An estimator may cut a segment where part of it is worth something else; slime has the rows already.
            if [line["tokens"] for line in made] != [samples[at].tokens for at in rows]:
                raise ValueError(f"{CREDIT} cuts the rows of attempt {attempt.head.id!r} otherwise within its group")
            for at, line in zip(rows, made, strict=True):
                raw[at], worth[at] = line["reward"]["raw"], line["reward"]["advantage"]
    return raw, worth
