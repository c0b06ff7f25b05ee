"""One turn at a time for each agent: budget, admission, the engine, the record.

Owns the path from "this agent's head is due" to a `Sampled` record, and each worker's gate: its admission controller,
what we believe is resident there, and which shared prefixes are being warmed.

Invariants: a granted turn is always given back, whatever happens to it; nothing is awaited while holding a grant but
the engine; a generation's tokens are recorded or it never happened. Knows no tools, no tasks, no relatives.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from msgspec import structs

from agents.context import Segment
from agents.host import Agent
from runtime.admission import Admission
from runtime.budget import Account
from runtime.engine.base import Capacity, Engine, EngineRefused, FinishReason, Generation, Sampling
from runtime.recorder import Recorder
from runtime.records import Sampled, Settings, Warmed
from runtime.residency import Residency

__all__ = ["LEAST_TURN_TOKENS", "Taken", "Turns"]

# A turn needs room for at least a short tool call; with less the context counts as full.
LEAST_TURN_TOKENS = 16
# An engine that ends a request before its first token, again and again, is not going to get better by being asked.
EMPTY_TURNS = 4
# How long the engine gets to forget what an agent held: it is a courtesy to the cache.
RELEASE_SECONDS = 5.0


class Taken(enum.Enum):
    """What came of asking for a turn."""

    YES = enum.auto()
    CONTEXT_FULL = enum.auto()
    OUT_OF_BUDGET = enum.auto()
    OUT_OF_TIME = enum.auto()  # said by whoever set the deadline


class _Gate:
    """One worker's: admission and its waiters, belief, and leaders."""

    def __init__(self, capacity: Capacity) -> None:
        self.admission = Admission(capacity.pool_tokens, capacity.page_tokens)
        self.residency = Residency(capacity.pool_tokens, capacity.page_tokens)
        self.warming: dict[int, anyio.Event] = {}
        self._granted: dict[str, tuple[anyio.Event, list[bool]]] = {}

    async def enter(self, agent: str, head: Segment, grows: int) -> bool:
        """Wait until the turn may start; False if it never may."""
        event, refused = anyio.Event(), [False]
        self._granted[agent] = (event, refused)
        self.admission.ask(agent, head, grows)
        self.pump()
        try:
            await event.wait()
        except BaseException:
            self.leave(agent)
            raise
        finally:
            del self._granted[agent]
        return not refused[0]

    def leave(self, agent: str) -> None:
        """The agent's context may go."""
        self.admission.left(agent)
        self.pump()

    def pump(self) -> None:
        """Start what may start."""
        for ticket in self.admission.grants():
            event, refused = self._granted[ticket.agent]
            refused[0] = ticket.refused
            event.set()


class Turns:
    """Takes turns for the agents of one run."""

    def __init__(
        self,
        engine: Engine,
        capacity: Capacity,
        recorder: Recorder,
        settings: Settings,
        stop_token_ids: tuple[int, ...],
        structural_tag: str | None,
    ) -> None:
        self._engine = engine
        self._capacity = capacity
        self._recorder = recorder
        self._settings = settings
        self._stop_token_ids = stop_token_ids
        self._stops = {(token,) for token in stop_token_ids}
        self._structural_tag = structural_tag
        self._gates = [_Gate(capacity) for _ in range(capacity.workers)]
        self._where: dict[str, _Gate] = {}
        self._generating: set[str] = set()
        self._short = anyio.Lock()  # held by the agent that waits for what others have set aside; the rest queue
        self._settled = anyio.Event()  # set when a reservation is given back, and replaced by whoever waits for it
        self._quiet: dict[str, anyio.Event] = {}  # of those that are being interrupted: set when they have ended

    def room(self, agent: Agent) -> int:
        """Tokens the agent's context can still grow by."""
        return self._capacity.context_tokens - agent.head.length - 1

    async def take(self, agent: Agent) -> Taken:
        """Sample a turn and record it. Raises EngineError, having changed nothing; on cancellation likewise."""
        room = min(self.room(agent), self._capacity.pool_tokens - agent.head.length - self._capacity.page_tokens)
        if room < LEAST_TURN_TOKENS:
            return Taken.CONTEXT_FULL
        account = self._recorder.state.accounts[agent.id]
        granted = await self._reserved(agent, account, min(self._settings.turn_tokens, room))
        if not granted:
            return Taken.OUT_OF_BUDGET
        try:
            for _ in range(EMPTY_TURNS):
                if await self._sample(agent, granted):
                    return Taken.YES
            raise EngineRefused("the engine ended the request before its first token, several times")
        finally:
            account.settle(granted)
            self._settled.set()

    async def interrupt(self, agent: Agent) -> None:
        """End the agent's generation, if there is one, keeping what it has sampled; return when that is recorded."""
        if agent.id in self._generating:
            quiet = self._quiet.setdefault(agent.id, anyio.Event())
            await self._engine.interrupt(self._session(agent.id))
            await quiet.wait()

    def park(self, agent: Agent) -> None:
        """The agent waits for others: its context may be evicted meanwhile."""
        gate = self._where.pop(agent.id, None)
        if gate is not None:
            gate.leave(agent.id)

    async def leave(self, agent: Agent) -> None:
        """The agent takes no more turns: the engine lets go of its KV before others get the room. Bounded, shielded."""
        try:
            await self._let_go(agent.id, shield=True)
        finally:
            self.park(agent)

    async def _let_go(self, agent: str, *, shield: bool) -> None:
        with anyio.move_on_after(RELEASE_SECONDS, shield=shield):
            await self._engine.release(self._session(agent))

    def _session(self, agent: str) -> str:
        """The engine's name for what an agent holds."""
        return f"{self._recorder.state.run}-{agent}"

    async def _reserved(self, agent: Agent, account: Account, tokens: int) -> int:
        """Set tokens aside for a turn; 0 when the budget is used up, which what others have set aside does not make it.

        They give back what they do not sample, so whoever finds nothing left waits for them, one after the other.
        """
        granted = account.reserve(tokens, goes_on=agent.interrupted)
        if granted or not _only_reserved(account):
            return granted
        self.park(agent)  # those it waits for may need its room
        agent.activity = "waiting for budget"
        async with self._short:
            while not (granted := account.reserve(tokens, goes_on=agent.interrupted)) and _only_reserved(account):
                self._settled = anyio.Event()
                await self._settled.wait()
        return granted

    async def _sample(self, agent: Agent, granted: int) -> bool:
        async with self._admitted(agent, granted) as gate:
            await self._lead(gate, agent)
            sampling = Sampling(
                max_new_tokens=granted,
                stop_token_ids=self._stop_token_ids,
                temperature=self._settings.temperature,
                top_p=self._settings.top_p,
                seed=self._settings.seed,
                structural_tag=self._structural_tag,
            )
            self._generating.add(agent.id)
            agent.activity = "generating"
            try:
                prompt = agent.head
                reply = await self._engine.generate(prompt, sampling, session=self._session(agent.id))
                if reply.finish is FinishReason.ABORT and reply.tokens[-1:] in self._stops:
                    # Aborted as it sampled its last token (SGLang 0.5.21): to go on would be to sample past its end.
                    reply = structs.replace(reply, finish=FinishReason.STOP)
                short = gate.residency.found(prompt, reply.cached_tokens)
                gate.residency.computed(prompt)
                if reply.finish is FinishReason.ABORT and not reply.tokens:
                    return False
                self._record(agent, reply, short)
                gate.residency.computed(agent.head)
                return True
            finally:
                self._generating.remove(agent.id)
                if quiet := self._quiet.pop(agent.id, None):
                    quiet.set()

    def _record(self, agent: Agent, reply: Generation, short: int) -> None:
        self._recorder.commit(
            Sampled(
                agent=agent.id,
                segment=self._recorder.state.next_segment,
                tokens=reply.tokens,
                logprobs=reply.logprobs,
                finish=reply.finish,
                prompt_tokens=reply.prompt_tokens,
                cached_tokens=reply.cached_tokens,
                short_tokens=short,
                version=reply.weight_version,
                seconds=reply.seconds,
            )
        )

    @asynccontextmanager
    async def _admitted(self, agent: Agent, granted: int) -> AsyncIterator[_Gate]:
        gate = self._gates[self._engine.worker(agent.head)]
        if self._where.get(agent.id) is not gate:
            self.park(agent)
            self._where[agent.id] = gate
        agent.activity = "waiting for the engine"
        if not await gate.enter(agent.id, agent.head, granted):
            gate.leave(agent.id)
            raise EngineRefused(
                f"a context of {agent.head.length} tokens does not fit the pool of {self._capacity.pool_tokens}"
            )
        try:
            while gate.admission.lost:  # what is still referenced would be kept at the expense of who has room
                await self._let_go(gate.admission.lost.pop(), shield=False)
            yield gate
        finally:
            gate.admission.ended(agent.id, agent.head)
            gate.pump()

    async def _lead(self, gate: _Gate, agent: Agent) -> None:
        """Have a cold prefix that siblings share computed once: the first of them warms it, the others wait."""
        trunk = agent.base.parent
        if agent.copies < 2 or trunk is None or agent.head is not agent.base:
            return
        while gate.residency.missing(trunk) > self._capacity.page_tokens:
            leader = gate.warming.get(trunk.id)
            if leader is not None:
                await leader.wait()
                continue
            gate.warming[trunk.id] = done = anyio.Event()
            try:
                agent.activity = "warming"
                cached = await self._engine.warm(trunk, session=self._session(agent.id))
                self._recorder.commit(
                    Warmed(agent=agent.id, segment=trunk.id, prompt_tokens=trunk.length, cached_tokens=cached)
                )
                gate.residency.computed(trunk)
            finally:
                del gate.warming[trunk.id]
                done.set()


def _only_reserved(account: Account) -> bool:
    """Whether some of what is missing is set aside, and not spent."""
    limits = [(at, at.budget.sampled_tokens) for at in account.chain() if at.budget is not None]
    short = [(at, most) for at, most in limits if most is not None and at.sampled_tokens + at.reserved >= most]
    return bool(short) and all(at.sampled_tokens < most for at, most in short)
