"""An engine without a model: a policy decides the tokens, a real radix tree decides what is cached.

For tests and teachers. Owns the pool: page accounting, session references, eviction, and the locks of running
requests, as SGLang has them (docs/adr/0004). The engine knows no chat format: a
policy gets token ids and returns token ids; `text_policy` makes one that reads and writes text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.lowlevel

from agents.chat import Chat
from agents.context import Segment
from runtime.engine.base import Capacity, EngineRefused, FinishReason, Generation, Sampling
from runtime.engine.radix import Lease, RadixTree

__all__ = ["Policy", "ScriptedEngine", "text_policy"]

Policy = Callable[[list[int]], Sequence[int]]


def text_policy(chat: Chat, decide: Callable[[str], str]) -> Policy:
    """A policy that reads its whole context as text and answers with the text of its turn, without the stop token.

    A context that ends within a turn, which was interrupted, is continued with the rest of that turn's text.
    """

    def policy(ids: list[int]) -> list[int]:
        text = chat.text(ids)
        before, header, begun = text.rpartition("<|im_start|>assistant\n")
        said = decide(before + header)
        rest = said[len(begun) :] if said.startswith(begun) else said
        return [*chat.tokenizer.encode(rest), chat.stop_token_ids[0]]

    return policy


class _Request:
    """One that runs or waits. Cancelling `scope`, of what it is doing now, interrupts it."""

    __slots__ = ("scope",)

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()


class ScriptedEngine:
    """`policy(prompt ids) -> sampled ids`, stop token included, behind a KV pool of `pool_tokens`.

    `pace(computed, sampled)` is awaited while a request runs, its arguments in tokens: for tests that need requests
    to take time, or to be held.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        model: str = "scripted",
        pool_tokens: int = 1_000_000,
        context_tokens: int = 32_768,
        page_tokens: int = 1,
        running_requests: int = 64,
        pace: Callable[[int, int], Awaitable[None]] | None = None,
    ) -> None:
        self._policy = policy
        self._pace = pace
        self._capacity = Capacity(
            model=model,
            pool_tokens=pool_tokens,
            context_tokens=context_tokens,
            page_tokens=page_tokens,
            running_requests=running_requests,
            weight_version="scripted",
        )
        self.tree = RadixTree(pool_tokens, page_tokens)
        self._room = anyio.Condition()
        self._slots = anyio.Semaphore(running_requests)
        self._requests: dict[str, set[_Request]] = {}  # those that can be interrupted, by session
        self.running = 0

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate. Raises EngineRefused for a prompt longer than the context or the pool."""
        ids = context.ids()
        if len(ids) >= self._capacity.context_tokens:
            raise EngineRefused(f"the prompt has {len(ids)} tokens, the context {self._capacity.context_tokens}", 400)
        request = _Request()
        if sampling.max_new_tokens:  # warming is not interrupted
            self._requests.setdefault(session, set()).add(request)
        try:
            with request.scope:
                async with self._slots:
                    self.running += 1
                    try:
                        return await self._run(ids, sampling, session, request)
                    finally:
                        self.running -= 1
        finally:
            if sampling.max_new_tokens:
                self._requests[session].remove(request)
                if not self._requests[session]:
                    del self._requests[session]
        return Generation(tokens=(), logprobs=(), finish=FinishReason.ABORT, prompt_tokens=0, cached_tokens=0)

    async def _run(self, ids: list[int], sampling: Sampling, session: str, request: _Request) -> Generation:
        sampled = list(self._policy(ids))[: sampling.max_new_tokens] if sampling.max_new_tokens else []
        stop = next((n for n, token in enumerate(sampled, 1) if token in sampling.stop_token_ids), None)
        sampled = sampled[:stop]
        lease = await self._admit(ids, len(sampled))
        done = aborted = False
        try:
            await anyio.lowlevel.checkpoint()
            if self._pace is not None:
                with anyio.CancelScope() as request.scope:
                    await self._pace(len(ids) - lease.cached, len(sampled))
                aborted = request.scope.cancelled_caught
            if aborted:
                sampled = sampled[: len(sampled) // 2]
            done = True
        finally:
            # What an aborted request had prefilled stays cached; only a finished one is referenced by its session.
            self.tree.unlock(lease)
            self.tree.insert([*ids, *sampled][:-1] if sampled else ids, session if done and not aborted else None)
            with anyio.CancelScope(shield=True):
                async with self._room:
                    self._room.notify_all()
        finish = FinishReason.ABORT if aborted else FinishReason.LENGTH if stop is None else FinishReason.STOP
        return Generation(
            tokens=tuple(sampled),
            logprobs=(0.0,) * len(sampled),
            finish=finish,
            prompt_tokens=len(ids),
            cached_tokens=lease.cached,
            weight_version="scripted",
        )

    async def _admit(self, ids: list[int], grows: int) -> Lease:
        async with self._room:
            while True:
                lease = self.tree.lock(ids, grows)
                if lease is not None:
                    return lease
                if self.running == 1:
                    raise EngineRefused(f"{len(ids) + grows} tokens do not fit the pool of {self.tree.capacity}", 400)
                await self._room.wait()

    async def warm(self, context: Segment, *, session: str) -> int:
        """See Engine.warm."""
        return (await self.generate(context, Sampling(max_new_tokens=0), session=session)).cached_tokens

    async def interrupt(self, session: str) -> None:
        """See Engine.interrupt. Half of what the policy said has then been sampled, or nothing if it waited."""
        for request in self._requests.get(session, ()):
            request.scope.cancel()

    def worker(self, context: Segment) -> int:
        """The only one."""
        return 0

    async def release(self, session: str) -> None:
        """See Engine.release."""
        self.tree.release(session)

    async def capacity(self) -> Capacity:
        """See Engine.capacity."""
        return self._capacity

    async def healthy(self) -> bool:
        """Always."""
        return True

    def trouble(self) -> str:
        """None."""
        return ""
