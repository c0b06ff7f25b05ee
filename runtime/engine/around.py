"""An engine around an engine: every request is passed on as it is.

Owns the passing on, so that who changes one thing about an engine writes that one thing. Opening and closing the inner
engine stays with whoever made it. Only the contract is passed on: what an engine can do beyond it (pause, load weights)
is asked of the engine that can.
"""

from __future__ import annotations

from agents.context import Segment
from runtime.engine.base import Capacity, Engine, Generation, Sampling

__all__ = ["EngineAround"]


class EngineAround:
    """`inner`, unchanged until a subclass says otherwise: see Engine for what each method promises."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate."""
        return await self.inner.generate(context, sampling, session=session)

    async def warm(self, context: Segment, *, session: str) -> int:
        """See Engine.warm."""
        return await self.inner.warm(context, session=session)

    async def interrupt(self, session: str) -> None:
        """See Engine.interrupt."""
        await self.inner.interrupt(session)

    def worker(self, context: Segment) -> int:
        """See Engine.worker."""
        return self.inner.worker(context)

    async def release(self, session: str) -> None:
        """See Engine.release."""
        await self.inner.release(session)

    async def capacity(self) -> Capacity:
        """See Engine.capacity."""
        return await self.inner.capacity()

    async def healthy(self) -> bool:
        """See Engine.healthy."""
        return await self.inner.healthy()

    def trouble(self) -> str:
        """See Engine.trouble."""
        return self.inner.trouble()
