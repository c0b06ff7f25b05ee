"""An engine that can be held still while its weights change, for whoever shares it.

Owns the door in front of an engine. Invariants: while it is held nothing is in flight, and what was in flight when
that began has returned the tokens it had sampled; a request that had none yet is sent again once the door is open, and
one that somebody else interrupts meanwhile returns; nobody is told that anything happened, but that the rest of a turn
may come from other weights. Changes no weights itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol, runtime_checkable

import anyio

from agents.context import Segment
from runtime.engine.around import EngineAround
from runtime.engine.base import Engine, FinishReason, Generation, Sampling

__all__ = ["HeldEngine", "Pausable"]

# How long a server gets to go on again when its holder is being cancelled: a paused server serves nobody.
PROCEED_S = 10.0
_NOTHING = Generation(tokens=(), logprobs=(), finish=FinishReason.ABORT, prompt_tokens=0, cached_tokens=0)


@runtime_checkable
class Pausable(Protocol):
    """An engine that others may use too, and that can be told to serve nobody for a while."""

    async def pause(self) -> None: ...
    async def proceed(self) -> None: ...


class _Flight:
    """A request that waits at the door or is under way."""

    __slots__ = ("interrupted", "waiting")

    def __init__(self) -> None:
        self.interrupted = False
        self.waiting = anyio.CancelScope()


class HeldEngine(EngineAround):
    """An engine with a door."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self._lock = anyio.Lock()  # one holder at a time
        self._held: anyio.Event | None = None  # while the door is closed: set when it opens
        self._flights: defaultdict[str, set[_Flight]] = defaultdict(set)  # by session
        self._under_way = 0
        self._still = anyio.Event()  # replaced with every hold: set when nothing is under way

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Close the door, interrupt what is under way and wait for it; an engine that is Pausable is paused as well.

        Raises EngineError where the engine cannot be told. Cancelled or not, the door opens again.
        """
        async with self._lock:
            self._held, self._still = anyio.Event(), anyio.Event()
            try:
                await self._drain()
                if not isinstance(self.inner, Pausable):
                    yield
                    return
                await self.inner.pause()
                try:
                    yield
                finally:
                    with anyio.move_on_after(PROCEED_S, shield=True):
                        await self.inner.proceed()
            finally:
                opened, self._held = self._held, None
                opened.set()

    async def _drain(self) -> None:
        if not self._under_way:
            return
        async with anyio.create_task_group() as group:
            for session in list(self._flights):
                group.start_soon(self.inner.interrupt, session)
            await self._still.wait()
            # Whom an interruption did not find, because it had just ended, it may go on looking for.
            group.cancel_scope.cancel("nothing is under way")

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate."""
        flight = _Flight()
        self._flights[session].add(flight)
        try:
            while True:
                with flight.waiting:
                    await self._opened()
                if flight.interrupted:
                    return _NOTHING
                with self._going():
                    reply = await super().generate(context, sampling, session=session)
                ours = self._held is not None and reply.finish is FinishReason.ABORT and not reply.tokens
                if not ours or flight.interrupted:
                    return reply
                flight.waiting = anyio.CancelScope()
        finally:
            self._flights[session].remove(flight)
            if not self._flights[session]:
                del self._flights[session]

    async def warm(self, context: Segment, *, session: str) -> int:
        """See Engine.warm. It is let finish: that takes no longer than a prefill."""
        await self._opened()
        with self._going():
            return await super().warm(context, session=session)

    async def interrupt(self, session: str) -> None:
        """See Engine.interrupt."""
        for flight in self._flights.get(session, ()):
            flight.interrupted = True
            flight.waiting.cancel("interrupted")
        await super().interrupt(session)

    async def _opened(self) -> None:
        while self._held is not None:
            await self._held.wait()

    @contextmanager
    def _going(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._still.set()
