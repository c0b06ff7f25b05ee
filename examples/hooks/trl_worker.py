"""TRL: a rollout worker for AsyncGRPOTrainer whose rollouts are swarms that fork.

    worker = SwarmWorker("http://127.0.0.1:30000", tasks, group=8)
    trainer = AsyncGRPOTrainer(model, rollout_worker=worker, ...)

Attempts are collected in a thread of their own; when the last one of a group has ended, its segments go to the trainer
as rows that know their advantage. TRL sends weights and then calls `update_model_version`; rows carry the version that
was live when their collection began, or what the engine says where its versions are numbers.
"""

from __future__ import annotations

import itertools
import queue
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from anyio import to_thread
from anyio.from_thread import start_blocking_portal

from runtime import SGLang
from runtime.rollouts import Reward, Rollout, Task
from runtime.rollouts.collect import collect
from runtime.rollouts.export import lines


class SwarmWorker:
    """What `RolloutWorkerProtocol` asks for. Goes through the tasks again and again until it is stopped.

    `ahead` is how many rows may wait for the trainer: rows that wait too long are stale.
    """

    def __init__(
        self,
        url: str,
        tasks: Sequence[Task],
        rewards: Sequence[Reward] = (),
        *,
        group: int = 8,
        at_once: int = 8,
        ahead: int = 256,
        credit: str = "segment",
        sample: Callable[..., Any] | None = None,
    ) -> None:
        self.rollout_buffer: queue.Queue[Any] = queue.Queue(ahead)
        self.metrics_queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self._url, self._tasks, self._rewards, self._credit = url, tasks, rewards, credit
        self._group, self._at_once = group, at_once
        self._sample = sample or _rollout_sample
        self._version = 0
        self._numbers = itertools.count()
        self._alive = time.monotonic()
        self._stack = ExitStack()
        self._work: Future[None] | None = None

    def start(self) -> None:
        """Begin. Called once the trainer has sent its first weights."""
        portal = self._stack.enter_context(start_blocking_portal())
        self._alive = time.monotonic()
        self._work = portal.start_task_soon(self._collect)

    def stop(self) -> None:
        """End what is under way, and wait for that."""
        if self._work is not None:
            self._work.cancel()
        self._stack.close()

    def update_model_version(self, model_version: int) -> None:
        """Weights of this version are live."""
        self._version = model_version

    def check_health(self, stale_after_s: float) -> None:
        """Raise what ended the work, if anything did, or RuntimeError if no attempt has ended for this long."""
        if self._work is not None and self._work.done():
            if not self._work.cancelled():
                self._work.result()
            raise RuntimeError("the worker has ended")
        if not self.rollout_buffer.full() and time.monotonic() - self._alive > stale_after_s:
            raise RuntimeError(f"no attempt has ended for {stale_after_s:g} s")

    async def _collect(self) -> None:
        async with SGLang.connect(self._url) as engine:
            while True:
                version = self._version
                waiting: dict[str, list[Rollout]] = defaultdict(list)
                async with collect(
                    self._tasks, self._rewards, group=self._group, at_once=self._at_once, engine=engine
                ) as collected:
                    async for rollout in collected:
                        self._alive = time.monotonic()
                        waiting[rollout.head.group].append(rollout)
                        if len(waiting[rollout.head.group]) == self._group:
                            await self._hand_over(waiting.pop(rollout.head.group), version)

    async def _hand_over(self, group: list[Rollout], version: int) -> None:
        for line in lines("trl", group, credit=self._credit, number=next(self._numbers)):
            row = self._sample(**line | {"model_version": line["model_version"] or version})
            await to_thread.run_sync(self._put, row, abandon_on_cancel=True)
        self.metrics_queue.put({"rollout/failed": (sum(bool(one.head.error) for one in group), len(group))})

    def _put(self, row: Any) -> None:
        while not self._stopped:
            try:
                return self.rollout_buffer.put(row, timeout=0.1)
            except queue.Full:
                continue
        return None

    @property
    def _stopped(self) -> bool:
        return self._work is None or self._work.cancelled()


def _rollout_sample(**fields: Any) -> Any:
    """TRL's own type, whose sequences are arrays."""
    import numpy
    from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

    kinds = {"input_ids": numpy.int64, "completion_mask": numpy.int64, "old_log_probs": numpy.float32}
    arrays = {name: numpy.array(fields[name], kind) for name, kind in kinds.items()}
    return RolloutSample(**{**fields, **arrays, "enqueued_at": time.time()})
