"""The hooks, live: a server that speaks SGLang's routes, swarms that fork, and what reaches the trainer.

Where a trainer's package is installed its own types are used; slime's and TRL's have stand-ins with the documented
fields otherwise.
"""

from __future__ import annotations

import enum
import importlib.util
import itertools
import queue
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import anyio
import msgspec
import pytest

from examples.hooks import slime_generate
from examples.hooks.trl_worker import SwarmWorker
from runtime.engine.scripted import text_policy
from runtime.rollouts import Function, Task
from tests.runtime.cli.server import ScriptedServer, serving
from tests.runtime.rollouts.export.schemas import RolloutSample
from tests.support import call, tiny_chat, tiny_model

pytestmark = pytest.mark.filterwarnings("default")


def installed(name: str) -> bool:
    """Whether a package is there, not counting a folder without code."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A model that forks in two, and then is right every other time."""
    results = itertools.cycle(("right", "wrong"))

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("finish", result="part")
        if re.search(r"^a\d+: part", text, re.MULTILINE):
            return call("finish", result=next(results))
        return call("fork", tasks=["one", "two"])

    with serving(ScriptedServer(text_policy(tiny_chat(), decide), tiny_model())) as one:
        yield one


@dataclass
class Sample:
    """slime's, as far as a hook sees it."""

    class Status(enum.Enum):
        PENDING = "pending"
        COMPLETED = "completed"
        TRUNCATED = "truncated"
        ABORTED = "aborted"
        FAILED = "failed"

    group_index: int | None = None
    index: int | None = None
    rollout_id: int | None = None
    prompt: str = ""
    tokens: list[int] = field(default_factory=list)
    response: str = ""
    response_length: int = 0
    label: str | None = None
    reward: Any = None
    loss_mask: list[int] | None = None
    weight_versions: list[str] = field(default_factory=list)
    rollout_log_probs: list[float] | None = None
    remove_sample: bool = False
    status: Status = Status.PENDING
    metadata: dict[str, Any] = field(default_factory=dict)
    session_id: str | None = None


def samples() -> list[Callable[..., Any]]:
    """The stand-in, and the real one where there is one."""
    return [Sample, importlib.import_module("slime.utils.types").Sample] if installed("slime") else [Sample]


async def generated(server: ScriptedServer, sample: Callable[..., Any], url: str = "") -> list[list[Any]]:
    """The rows of two attempts at one prompt."""
    host, _, port = (url or server.url).removeprefix("http://").partition(":")
    args = SimpleNamespace(sglang_router_ip=host, sglang_router_port=int(port))
    params = {"temperature": 1.0, "max_new_tokens": 256}
    return [
        await slime_generate.generate(args, sample(group_index=3, index=n, prompt="do it", label="right"), params)
        for n in (6, 7)
    ]


@pytest.mark.parametrize("sample", samples())
def test_slime_gets_a_row_for_each_segment_and_its_advantage(server: ScriptedServer, sample: Any) -> None:
    """A root that forks in two has four segments; those of the right root are worth what the wrong one's cost."""
    roots = anyio.run(generated, server, sample)
    rows = [row for root in roots for row in root]
    assert [len(root) for root in roots] == [4, 4]
    assert [{row.rollout_id for row in root} for root in roots] == [{6}, {7}]
    assert {row.group_index for row in rows} == {3}
    for row in rows:
        assert len(row.loss_mask) == len(row.rollout_log_probs) == row.response_length
        assert sum(row.loss_mask) > 0
        assert row.status is sample.Status.COMPLETED
    raw, worth = slime_generate.advantages(SimpleNamespace(), rows)
    assert raw == [1.0] * 4 + [0.0] * 4
    assert all(value > 0 for value in worth[:4])
    # slime divides each root by its trained tokens: the two cancel, token for token.
    totals = [
        sum(value * sum(row.loss_mask) for row, value in zip(rows[at], worth[at], strict=True))
        / sum(sum(row.loss_mask) for row in rows[at])
        for at in (slice(4), slice(4, 8))
    ]
    assert totals[0] == pytest.approx(0.5, abs=0.1)
    assert totals[1] == pytest.approx(-0.5, abs=0.1)


def test_slime_gets_a_masked_row_where_an_attempt_failed(server: ScriptedServer, monkeypatch: Any) -> None:
    """A task that fits no context makes one sample that trains nothing, and the group goes on."""
    monkeypatch.setattr(server, "generate", lambda body: {})  # no reply at all that could be read
    roots = anyio.run(generated, server, Sample)
    rows = [row for root in roots for row in root]
    assert [row.status for row in rows] == [Sample.Status.FAILED] * 2
    assert all(row.remove_sample and not any(row.loss_mask) for row in rows)
    assert slime_generate.advantages(SimpleNamespace(), rows) == ([0.0, 0.0], [0.0, 0.0])


def _documented(**fields: Any) -> RolloutSample:
    return msgspec.convert(msgspec.to_builtins(fields), RolloutSample)


@pytest.mark.parametrize("sample", [_documented, None] if installed("trl") else [_documented])
def test_trl_gets_whole_groups_with_their_advantages(server: ScriptedServer, sample: Any) -> None:
    """Rows of a group come together; the worker is healthy while it works and says so when it does not."""
    right = Function("right", lambda rollout, directory: rollout.head.result == "right")
    task = Task(id="t", prompt="do it")
    worker = SwarmWorker(server.url, [task], [right], group=2, at_once=1, ahead=8, sample=sample)
    worker.update_model_version(5)
    worker.start()
    try:
        rows = [worker.rollout_buffer.get(timeout=60) for _ in range(8)]
        again = worker.rollout_buffer.get(timeout=60)
        worker.check_health(600)
    finally:
        worker.stop()
    assert {row.group_id for row in rows} == {0}
    assert again.group_id == 1
    assert {row.model_version for row in rows} == {5}
    assert sorted(row.advantage > 0 for row in rows) == [False] * 4 + [True] * 4
    assert all(len(row.input_ids) == len(row.completion_mask) == len(row.old_log_probs) for row in rows)
    assert worker.metrics_queue.get_nowait() == {"rollout/failed": (0, 2)}
    with pytest.raises(RuntimeError, match="ended"):
        worker.check_health(600)


def test_a_trl_worker_that_finds_no_server_says_so(server: ScriptedServer) -> None:
    """What ended the work is raised when the trainer asks for its health; stopping is still possible."""
    worker = SwarmWorker("http://127.0.0.1:9", [Task(id="t", prompt="do it")], group=2)
    worker.start()
    assert worker._work is not None
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        worker._work.result(timeout=60)
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        worker.check_health(1)
    worker.stop()
    with pytest.raises(queue.Empty):
        worker.rollout_buffer.get_nowait()


@pytest.mark.skipif(not installed("verifiers"), reason="verifiers is not installed")
def test_verifiers_gets_an_episode_with_a_branch_for_each_copy(server: ScriptedServer) -> None:
    """Its own client configuration names the server; the episode's one trace has three branches and the reward."""
    import verifiers.v1 as vf

    from examples.hooks.verifiers_env import SwarmConfig, SwarmEnv
    from tests.runtime.rollouts.export import verifiers_tasks

    sys.modules.setdefault("ramet_tasks", verifiers_tasks)
    config = SwarmConfig(taskset=vf.TasksetConfig(id="ramet_tasks"))
    env = SwarmEnv(config)
    (task,) = list(env.taskset.load())
    context = SimpleNamespace(
        model="tiny", client=SimpleNamespace(base_url=f"{server.url}/v1"), sampling=SimpleNamespace(temperature=1.0)
    )
    seen: list[Any] = []

    async def run() -> Any:
        return await env.run_episode(task, context, on_trace=seen.append)

    episode = anyio.run(run)
    assert episode.ok
    (trace,) = episode.traces
    assert seen == [trace]
    assert trace.reward == 1.0
    assert trace.num_branches == 3
    assert len({tuple(branch.token_ids[:20]) for branch in trace.branches}) == 1
    assert all(branch.advantages is None for branch in trace.branches)
    assert episode.task.key == task.key
