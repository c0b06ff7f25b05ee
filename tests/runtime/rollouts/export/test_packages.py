"""The real readers: where a package is installed, what is exported for it goes through its own types and loaders.

Where it is not, these tests are skipped, and the formats are held to `schemas` alone (`test_rows`, `test_graphs`, and
the first test here, which runs everywhere).
"""

from __future__ import annotations

import importlib
import queue
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given

from runtime.rollouts.schema import Rollout
from tests.runtime.rollouts.export.made import alone, forking
from tests.runtime.rollouts.export.schemas import DOCUMENTED
from tests.runtime.rollouts.export.trees import credited, exported, files, in_order, steady


def group() -> list[Rollout]:
    """Two roots that fork and one that does not, of one task; and one of another."""
    forked = [forking(f"t{n}", float(n), Random(n), trunk=12, branch=6, ways=3, group="t") for n in range(2)]
    return [*forked, alone("t2", 0.0), alone("u0", 1.0, "u"), alone("u1", 0.0, "u")]


def package(name: str) -> Any:
    """A module of a package that may not be installed; one that is, but cannot be imported, is an error."""
    pytest.importorskip(name.partition(".")[0])
    return importlib.import_module(name)


@pytest.mark.parametrize("to", DOCUMENTED)
@steady
@given(found=files())
def test_lines_are_as_their_readers_document_them(to: str, found: list[Rollout]) -> None:
    """Every field is known, of its type, and as long as those beside it."""
    for line in exported(found, to):
        msgspec.convert(line, DOCUMENTED[to])


@pytest.mark.filterwarnings("default")
@steady
@given(found=files())
def test_slime_takes_samples(found: list[Rollout], tmp_path: Path) -> None:
    """`Sample.from_dict` gives back what `to_dict` tells; slime's own checks of lengths, ids and dumps pass."""
    types = package("slime.utils.types")
    data = package("slime.observability.rollout_data_utils")
    torch = package("torch")
    lines = exported(found, "slime")
    torch.save({"rollout_id": 0, "samples": lines}, tmp_path / "0.pt")
    samples = data.load_debug_rollout_data(str(tmp_path / "{rollout_id}.pt"), rollout_id=0)
    roots: dict[int, list[Any]] = defaultdict(list)
    for line, sample in zip(lines, samples, strict=True):
        sample._validate_response_metadata_lengths()
        told = sample.to_dict()
        assert {name: told[name] for name in line} == line
        assert set(line) <= set(types.Sample.__dataclass_fields__)
        assert sample.get_reward_value(Namespace(reward_key="advantage")) == line["reward"]["advantage"]
        roots[sample.rollout_id].append(sample)
    data.validate_rollout_id_annotated([list(roots.values())])


@pytest.mark.filterwarnings("default")
def test_slime_schedules_one_rollout_a_root() -> None:
    """A step of as many rollouts as there are roots takes every row."""
    schedule = package("slime.utils.dp_schedule")
    lines = exported(group(), "slime")
    args = Namespace(
        use_dynamic_batch_size=False, micro_batch_size=1, max_tokens_per_gpu=None, balance_data=False,
        balance_by_flops=False,
    )  # fmt: skip
    layout = {"dp_size": 1, "cp_size": 1, "vpp_size": 1, "microbatch_group_size_per_vp_stage": 1}
    partitions, *_, sizes = schedule.build_dp_schedule(
        args,
        layout,
        [len(line["tokens"]) for line in lines],
        global_batch_size=5,
        rollout_indices=[line["rollout_id"] for line in lines],
    )
    assert sizes == [5]
    assert sorted(partitions[0]) == list(range(len(lines)))


@pytest.mark.filterwarnings("default")
def test_verl_trains_rows_with_their_own_advantage() -> None:
    """Its V1 trainer, told of an estimator that takes scores as they are, gives each row what was exported for it."""
    loop = package("verl.experimental.agent_loop.agent_loop")
    utils = package("verl.trainer.ppo.v1.utils")
    core = package("verl.trainer.ppo.core_algos")
    protocol = package("verl.protocol")
    numpy, torch = package("numpy"), package("torch")

    def as_scored(token_level_rewards: Any, response_mask: Any, **_: Any) -> tuple[Any, Any]:
        values = token_level_rewards.sum(-1, keepdim=True) * response_mask
        return values, values

    core.ADV_ESTIMATOR_REGISTRY["as_scored"] = as_scored
    lines = exported(group(), "verl")
    outputs = [loop.AgentLoopOutput(**line["output"]).as_dict() for line in lines]
    pad = torch.nn.utils.rnn.pad_sequence
    batch = protocol.DataProto.from_dict(
        tensors={
            "response_mask": pad([one["response_mask"] for one in outputs], batch_first=True),
            "token_level_rewards": pad([one["rm_scores"] for one in outputs], batch_first=True),
        },
        non_tensors={"uid": numpy.array([line["uid"] for line in lines], dtype=object)},
    )
    done = utils.compute_advantage_for_multi_trajectories(batch, [line["key"] for line in lines], "as_scored")
    for advantages, line in zip(done.batch["advantages"].tolist(), lines, strict=True):
        wanted = [line["output"]["reward_score"] * mine for mine in line["output"]["response_mask"]]
        assert advantages[: len(wanted)] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.filterwarnings("default")
@steady
@given(found=files())
def test_verl_takes_outputs(found: list[Rollout]) -> None:
    """`AgentLoopOutput` takes each row, and makes the tensors that go into the queue."""
    loop = package("verl.experimental.agent_loop.agent_loop")
    for line in exported(found, "verl"):
        tensors = loop.AgentLoopOutput(**line["output"]).as_dict()
        assert tensors["prompts"].tolist() == line["output"]["prompt_ids"]
        assert tensors["responses"].tolist() == line["output"]["response_ids"]
        assert tensors["rm_scores"].sum().item() == pytest.approx(line["output"]["reward_score"], rel=1e-6)


@pytest.mark.filterwarnings("default")
def test_trl_trains_each_token_once_with_its_advantage() -> None:
    """Through TRL's own queue, batcher and packer: the loss terms are the trained tokens of all rows."""
    worker = package("trl.experimental.async_grpo.async_rollout_worker")
    trainer = package("trl.experimental.async_grpo.async_grpo_trainer")
    numpy = package("numpy")
    arrays = {"input_ids": numpy.int64, "completion_mask": numpy.int64, "old_log_probs": numpy.float32}
    lines = exported(group(), "trl")
    waiting: queue.Queue[Any] = queue.Queue()
    for line in lines:
        waiting.put(
            worker.RolloutSample(**line | {name: numpy.array(line[name], kind) for name, kind in arrays.items()})
        )

    def ended(_: float) -> None:
        raise AssertionError("the queue is empty")

    source = trainer.RolloutQueueDataset(waiting, lambda: 7, ended, 1.0, defaultdict(list))
    rows = next(iter(trainer.FixedCountBatcher(source, num_processes=1, microbatch_size=len(lines))))
    collator = trainer.DataCollatorForRollout(pad_token_id=0)
    batch = collator([rows])
    terms = [
        (line["input_ids"][at], line["old_log_probs"][at], line["advantage"])
        for line in lines
        for at, mine in enumerate(line["completion_mask"])
        if mine
    ]
    (index, labels) = batch["token_index"][0], batch["shift_labels"][0]
    ours = [labels[at].item() for at in index if at >= 0]
    found = zip(ours, batch["old_log_probs"][0].tolist(), batch["advantages"][0].tolist(), strict=True)
    assert sorted(found) == [pytest.approx(term, abs=1e-6) for term in sorted(terms)]
    assert batch["global_n_tokens"].item() == len(terms)
    assert collator.groups_trained == {line["group_id"] for line in lines}
    # A prefix that rows share is forwarded once.
    assert batch["input_ids"].numel() < sum(len(line["input_ids"]) for line in lines)


@pytest.mark.filterwarnings("default")
@steady
@given(found=files())
def test_verifiers_takes_episodes(found: list[Rollout]) -> None:
    """Its branches are the contexts of the tips, with the advantages of their tokens; its reward is the root's."""
    v1 = package("verifiers.v1")
    for line, (rollout, credit) in zip(exported(found, "verifiers"), credited(found), strict=True):
        episode = v1.WireEpisode.model_validate(line)
        above = {edge.parent for edge in rollout.edges}
        tips = [edge.id for edge in rollout.edges if edge.id not in above]
        branches = [branch for trace in episode.traces for branch in trace.branches]
        assert sorted(branch.token_ids for branch in branches) == sorted(rollout.context(tip) for tip in tips)
        for branch in branches:
            assert len(branch.logprobs) == len(branch.sampled_mask) == len(branch.token_ids)
            assert branch.advantages is None or len(branch.advantages) == len(branch.token_ids)
        if not rollout.edges:
            assert not episode.traces
            assert not episode.ok
            continue
        root = episode.traces[0]
        terms = [term for term in rollout.head.terms if term.agent == "a0" and term.step is None]
        assert root.reward == pytest.approx(sum((term.score or 0.0) * term.weight for term in terms))
        assert episode.num_turns == sum(sum(one is not None for one in _turns(edge)) for edge in rollout.edges)
        assert (credit.out == "") or all(node.advantages is None for trace in episode.traces for node in trace.nodes)


def _turns(edge: Any) -> list[Any]:
    return [turn for turn in edge.turns if any(edge.sampled[turn.start : turn.end])]


@pytest.mark.filterwarnings("default")
@steady
@given(found=files())
def test_atif_takes_trajectories(found: list[Rollout]) -> None:
    """Its strict models take each document, and tell what they were told."""
    atif = package("atif")
    for line, rollout in zip(exported(found, "atif"), [one for one in in_order(found) if one.edges], strict=True):
        document = atif.Trajectory.model_validate(line)
        assert msgspec.convert(document.to_json_dict(), DOCUMENTED["atif"]) == msgspec.convert(line, DOCUMENTED["atif"])
        assert document.session_id == rollout.head.id
