"""Several workers behind one engine.

Owns who is alive and what is sent where; `placement.py` decides where families belong. Invariants:
- a request goes to the worker that holds its family, for as long as that worker answers;
- a worker that fails a request, after its client's own repeats, and does not answer when asked how it is, is dead:
  its families move, each when it is next needed, and what they asked for is asked again where they are now;
- of a family that moved, one request computes its prefix before the others follow;
- a dead worker is asked again, less and less often, and when it answers it gets families like the others.

Knows no HTTP: its workers are engines. A worker that restarted has forgotten everything; whoever believes otherwise
is corrected by what its replies report (`cached_tokens`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import structlog
from anyio.abc import TaskGroup
from msgspec import structs

from agents.context import Segment
from runtime.engine.base import (
    Capacity,
    Engine,
    EngineRefused,
    EngineUnavailable,
    FinishReason,
    Generation,
    Sampling,
)
from runtime.engine.placement import Family, Placement

__all__ = ["Fleet"]

# Pauses before a dead worker is asked how it is: a hiccup is over in one second, a restart takes half a minute.
PROBE_S, MOST_PROBE_S = 1.0, 30.0

_log = structlog.get_logger(__name__)
_NOTHING = Generation(tokens=(), logprobs=(), finish=FinishReason.ABORT, prompt_tokens=0, cached_tokens=0)


class _Call:
    """A generation under way, which an interruption may find between two workers."""

    __slots__ = ("interrupted",)

    def __init__(self) -> None:
        self.interrupted = False


class Fleet:
    """An engine made of `engines`, whose `names` are for people. Use as an async context manager.

    Whoever made the engines closes them, after the fleet.
    """

    def __init__(self, engines: Sequence[Engine], names: Sequence[str] | None = None) -> None:
        if not engines:
            raise EngineRefused("a fleet needs at least one worker")
        self._engines = list(engines)
        self.names = list(names or map(str, range(len(engines))))
        self.placement = Placement(len(engines))
        self._calls: dict[str, set[_Call]] = {}
        self._leading: dict[Family, anyio.Event] = {}
        self._gone: dict[int, str] = {}  # why, of those that are dead
        self._owed: list[set[str]] = [set() for _ in engines]  # sessions to release where a worker comes back
        self._capacity: Capacity | None = None
        self._stack = AsyncExitStack()
        self._group: TaskGroup

    async def __aenter__(self) -> Self:
        self._group = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel("the fleet is being left")
        return await self._stack.__aexit__(kind, error, trace)

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate. Raises EngineUnavailable when no worker is left, or one that lives failed."""
        with self._calling(session, sampling) as call:
            while True:
                family = await self._placed(context)
                worker = family.worker
                self.placement.use(family, session)
                try:
                    await self._lead(family, context, session)
                    if call.interrupted:
                        return _NOTHING
                    if family.worker == worker:
                        return await self._engines[worker].generate(context, sampling, session=session)
                except EngineUnavailable as error:
                    if not await self._lost(worker, str(error)):
                        raise

    async def warm(self, context: Segment, *, session: str) -> int:
        """See Engine.warm."""
        return (await self.generate(context, Sampling(max_new_tokens=0), session=session)).cached_tokens

    async def interrupt(self, session: str) -> None:
        """See Engine.interrupt."""
        for call in self._calls.get(session, ()):
            call.interrupted = True
        async with anyio.create_task_group() as group:
            for worker in self.placement.where(session):
                group.start_soon(self._engines[worker].interrupt, session)

    def worker(self, context: Segment) -> int:
        """See Engine.worker. Places a family that is new, or whose worker died."""
        return self.placement.family(context).worker

    async def release(self, session: str) -> None:
        """See Engine.release. Dead workers are told when they are back."""
        async with anyio.create_task_group() as group:
            for worker in self.placement.release(session):
                if self.placement.live[worker]:
                    group.start_soon(self._engines[worker].release, session)
                else:
                    self._owed[worker].add(session)

    async def capacity(self) -> Capacity:
        """What the smallest worker holds, and how many there are. Raises EngineUnavailable unless all answer.

        Raises EngineRefused unless all serve the same model in the same way.
        """
        if self._capacity is None:
            found = [await engine.capacity() for engine in self._engines]
            for what, values in (
                ("models", [Path(each.model).name for each in found]),
                ("context lengths", [each.context_tokens for each in found]),
                ("page sizes", [each.page_tokens for each in found]),
            ):
                if len(set(values)) > 1:
                    each = ", ".join(f"{name}: {value}" for name, value in zip(self.names, values, strict=True))
                    raise EngineRefused(f"the workers have different {what}: {each}")
            self._capacity = structs.replace(
                found[0],
                pool_tokens=min(each.pool_tokens for each in found),
                running_requests=min(each.running_requests for each in found),
                workers=len(found),
            )
        return self._capacity

    async def healthy(self) -> bool:
        """Whether any worker answers now."""
        return any([await engine.healthy() for engine in self._engines])

    def trouble(self) -> str:
        """See Engine.trouble: which workers are gone, and what those that live say of themselves."""
        said = []
        for worker, (name, engine) in enumerate(zip(self.names, self._engines, strict=True)):
            if worker in self._gone:
                said.append(f"{name} is gone: {self._gone[worker]}")
            elif trouble := engine.trouble():
                said.append(f"{name}: {trouble}")
        return "; ".join(said)

    # -- the rest -------------------------------------------------------------------------------------------

    @contextmanager
    def _calling(self, session: str, sampling: Sampling) -> Iterator[_Call]:
        call = _Call()
        if not sampling.max_new_tokens:  # warming is not interrupted
            yield call
            return
        calls = self._calls.setdefault(session, set())
        calls.add(call)
        try:
            yield call
        finally:
            calls.remove(call)
            if not calls:
                del self._calls[session]

    async def _placed(self, context: Segment) -> Family:
        """The family of a context, on a worker that lives as far as we know."""
        if not any(self.placement.live):
            for worker, engine in enumerate(self._engines):
                if await engine.healthy():
                    await self._back(worker)
        if not any(self.placement.live):
            raise EngineUnavailable(f"no worker answers: {', '.join(self.names)}")
        return self.placement.family(context)

    async def _lead(self, family: Family, context: Segment, session: str) -> None:
        """Where a family has moved, let one request compute what they all share, or be the one."""
        while family.cold:
            leader = self._leading.get(family)
            if leader is not None:
                await leader.wait()
                continue
            self._leading[family] = done = anyio.Event()
            worker = family.worker
            try:
                await self._engines[worker].warm(context, session=session)
                family.cold = family.worker != worker
            finally:
                del self._leading[family]
                done.set()

    async def _lost(self, worker: int, reason: str) -> bool:
        """Whether a worker that failed a request is dead."""
        if self.placement.live[worker] and await self._engines[worker].healthy():
            return False
        if self.placement.live[worker]:  # nobody else has found out meanwhile
            self.placement.live[worker] = False
            self._gone[worker] = reason
            _log.warning("a worker is gone; its families move", worker=self.names[worker], reason=reason)
            self._group.start_soon(partial(self._probe, worker), name=f"probe {self.names[worker]}")
        return True

    async def _probe(self, worker: int) -> None:
        pause_s = PROBE_S
        while not self.placement.live[worker]:
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_PROBE_S)
            if await self._engines[worker].healthy():
                await self._back(worker)

    async def _back(self, worker: int) -> None:
        """A dead worker answers again: it gets new families, and what it may still hold for nobody goes."""
        if self.placement.live[worker]:
            return
        self.placement.live[worker] = True
        self._gone.pop(worker, None)
        _log.info("a worker is back", worker=self.names[worker])
        while self._owed[worker]:
            await self._engines[worker].release(self._owed[worker].pop())
