"""The SGLang engine over HTTP: contexts in, generations out.

Owns when a server is asked, again or not at all, and what is under way there; `_wire.py` has the words, `_http.py`
the connections, `server.py` the process of a local one.

Invariants:
- request ids are 32 hexadecimal digits and never used twice: SGLang aborts by prefix, so no id may begin another;
- a request that we stop waiting for is aborted at the server, whatever the reason;
- an interrupted generation always returns: the tokens it has, or none where it had not begun;
- a server that fails one request after the other is asked less and less often (`_circuit.py`): the others wait a little
  for it, and fail without being sent.

Written against SGLang 0.5.21. Knows nothing of agents or budgets.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import overload

import anyio
import structlog

from agents.context import Segment
from runtime.engine._circuit import Circuit
from runtime.engine._http import Http, NeverSent, repeating
from runtime.engine._wire import NOTHING, Reply, encode, generate_body, read_capacity, read_generation, read_reply
from runtime.engine.base import Capacity, EngineError, EngineRefused, EngineUnavailable, Generation, Sampling
from runtime.engine.environment import Environment, Progress
from runtime.engine.fleet import Fleet
from runtime.engine.server import ServerOptions, managed_server

__all__ = ["SGLang"]

ATTEMPTS = 4  # with the pauses between them: about 1.5 s, a worker's hiccup but not its restart
# An abort that overtakes its request finds nobody, so it is repeated; first pause, doubled each time.
INTERRUPT_S = 0.05
ABORT_S = 2.0  # an abort that takes longer finds nobody; SGLang then notices the closed connection within 4 s
CHANGE_S = 600.0  # what changes weights waits for all that are read from disk
# The longest a request may stay unanswered. Waiting in the server's queue counts, so it is generous.
REPLY_S = 1800.0
# How long a request waits for a server that has failed others: longer than a hiccup. Who has more patience, or other
# workers, decides what comes then.
GONE_S = 3.0

_log = structlog.get_logger(__name__)


class _Flight:
    """A generation between its call and its return: what it takes to interrupt it."""

    __slots__ = ("ended", "queueing", "rid")

    def __init__(self) -> None:
        self.rid = ""  # while the server has it
        self.queueing = anyio.CancelScope()  # around its wait for a connection
        self.ended: anyio.Event | None = None  # made by whoever interrupts it: ten thousand fly, few are interrupted

    def interrupted(self) -> bool:
        """Whether somebody wants it to end."""
        return self.ended is not None


class SGLang:
    """An engine that is an SGLang server. Made by `connect` or `local`.

    Requests beyond `connections` wait here, and waiting can be cancelled at no cost.
    """

    def __init__(self, http: Http, *, reply_s: float = REPLY_S, attempts: int = ATTEMPTS) -> None:
        self._http = http
        self._reply_s = reply_s
        self._attempts = attempts
        self._capacity: Capacity | None = None
        self._flights: dict[str, set[_Flight]] = {}  # by session
        self._circuit = Circuit()
        self._gone = False  # by what `healthy` last saw
        self._closed = anyio.Event()  # set when the circuit closes, and replaced
        self._trouble = ""  # while the circuit is open
        self.url = http.url

    @overload
    @classmethod
    def connect(
        cls,
        url: str,
        *,
        api_key: str | None = None,
        connections: int = 256,
        reply_s: float = REPLY_S,
        attempts: int = ATTEMPTS,
    ) -> AbstractAsyncContextManager[SGLang]: ...

    @overload
    @classmethod
    def connect(
        cls,
        url: list[str] | tuple[str, ...],
        *,
        api_key: str | Sequence[str | None] | None = None,
        connections: int = 256,
        reply_s: float = REPLY_S,
        attempts: int = ATTEMPTS,
    ) -> AbstractAsyncContextManager[Fleet]: ...

    @classmethod
    def connect(
        cls,
        url: str | list[str] | tuple[str, ...],
        *,
        api_key: str | Sequence[str | None] | None = None,
        connections: int = 256,
        reply_s: float = REPLY_S,
        attempts: int = ATTEMPTS,
    ) -> AbstractAsyncContextManager[SGLang | Fleet]:
        """Use running servers, which should have been started with `--enable-session-radix-cache`: one, or a fleet.

        `api_key` is the same for all, or one for each; `connections` are to each. Nothing is sent yet. Raises
        EngineRefused, on entering, for what is not an address. Leaving closes the connections.
        """
        connect = partial(cls._connect, connections=connections, reply_s=reply_s, attempts=attempts)
        if isinstance(url, str):
            if api_key is not None and not isinstance(api_key, str):
                raise EngineRefused("one server has one key")
            return connect(url, api_key)
        keys = [api_key] * len(url) if api_key is None or isinstance(api_key, str) else list(api_key)
        if len(keys) != len(url):
            raise EngineRefused(f"{len(url)} servers were given {len(keys)} keys")
        return cls._fleet([connect(*each) for each in zip(url, keys, strict=True)], url)

    @classmethod
    @asynccontextmanager
    async def _connect(
        cls, url: str, api_key: str | None, *, connections: int, reply_s: float, attempts: int
    ) -> AsyncIterator[SGLang]:
        async with Http(url, api_key=api_key, connections=connections) as http:
            yield cls(http, reply_s=reply_s, attempts=attempts)

    @staticmethod
    @asynccontextmanager
    async def _fleet(
        workers: Sequence[AbstractAsyncContextManager[SGLang]], names: Sequence[str]
    ) -> AsyncIterator[Fleet]:
        async with AsyncExitStack() as stack:
            engines = [await stack.enter_async_context(worker) for worker in workers]
            yield await stack.enter_async_context(Fleet(engines, names))

    @classmethod
    @asynccontextmanager
    async def local(
        cls,
        model: str = "seedling",
        options: ServerOptions | None = None,
        *,
        log: Path | None = None,
        environment: Environment | None = None,
        progress: Progress | None = None,
    ) -> AsyncIterator[SGLang]:
        """Start a server on this machine and use it; leaving ends it. See `managed_server` for errors."""
        started = managed_server(model, options, log=log, environment=environment, progress=progress)
        async with started as server, cls.connect(server.url, api_key=server.api_key) as engine:
            yield engine

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """Sample a continuation; see `Engine.generate`.

        What fails on the way is aborted and sent again under a new id: tokens in, tokens out, so a repeat does no
        harm. The model's own end-of-text token stops it as well as `sampling.stop_token_ids`. SGLang heeds `seed`
        only with `--enable-deterministic-inference`, which switches the radix cache off on a CPU.

        Token ids must be the model's: SGLang 0.5.21 does not check them, and one beyond the vocabulary ends the
        whole server.
        """
        body = partial(generate_body, context, sampling, session)  # made in its turn: ten thousand may be waiting
        started = anyio.current_time()
        with self._flying(session, sampling) as flight:
            reply = await repeating(lambda: self._generate(body, flight), EngineUnavailable, self._attempts)
        return read_generation(reply, anyio.current_time() - started)

    async def warm(self, context: Segment, *, session: str) -> int:
        """Prefill `context`; see `Engine.warm`."""
        generation = await self.generate(context, Sampling(max_new_tokens=0), session=session)
        return generation.cached_tokens

    async def interrupt(self, session: str) -> None:
        """End the session's generations; see `Engine.interrupt`. Returns when they have ended, or failed."""
        async with anyio.create_task_group() as group:
            for flight in self._flights.get(session, ()):
                flight.ended = flight.ended or anyio.Event()  # at once: it may end before its task begins
                group.start_soon(self._interrupt, flight, flight.ended)

    def worker(self, context: Segment) -> int:
        """The only one."""
        return 0

    async def release(self, session: str) -> None:
        """Let the session's KV go; see `Engine.release`. A server that is gone has let it go."""
        body = encode({"session_id": session})
        try:
            await repeating(
                lambda: self._http.control("POST", "/close_session", body), EngineUnavailable, self._attempts
            )
        except EngineUnavailable:
            return

    async def capacity(self) -> Capacity:
        """See `Engine.capacity`. Raises EngineRefused if the server wants another key."""
        if self._capacity is None:
            raw = await repeating(lambda: self._http.control("GET", "/server_info"), EngineUnavailable, self._attempts)
            self._capacity = read_capacity(raw)
        return self._capacity

    async def healthy(self) -> bool:
        """Whether the server is ready for requests now; one attempt, at most five seconds."""
        try:
            await self._http.control("GET", "/ready", timeout_s=5)
        except EngineError:
            self._gone = True
            return False
        if self._gone:  # and is back: nobody need wait out a pause; one that is ready and yet fails is another matter
            self._gone = False
            self._answered()
        return True

    def trouble(self) -> str:
        """See `Engine.trouble`: what opened the circuit, while it is open."""
        return self._trouble

    async def pause(self) -> None:
        """End what the server works on, for whomever, and have it begin nothing new until `proceed`.

        Raises EngineError. So do the next two.
        """
        await self._http.control("POST", "/pause_generation", encode({"mode": "abort"}), timeout_s=CHANGE_S)

    async def proceed(self) -> None:
        """Serve again."""
        # Without this, SGLang 0.5.21 asks CUDA to empty its cache, which on a CPU ends the server.
        await self._http.control("POST", "/continue_generation", encode({"torch_empty_cache": False}))

    async def load(self, weights: Path, version: str) -> None:
        """Serve other weights of the same model, a directory on the server's machine, under a name from now on.

        Generations say which weights sampled them; `capacity` (SGLang 0.5.21) goes on naming those of the start.
        The cache is emptied: it was computed by others. To be called while nothing is in flight (`HeldEngine.held`):
        SGLang 0.5.21 changes the weights, and then says that it failed, if something is.
        """
        body = encode({"model_path": str(weights), "weight_version": version, "flush_cache": True})
        await self._http.control("POST", "/update_weights_from_disk", body, timeout_s=CHANGE_S)

    @contextmanager
    def _flying(self, session: str, sampling: Sampling) -> Iterator[_Flight]:
        """The flight of one call. Warming has none that can be found: it is not interrupted."""
        flight = _Flight()
        if not sampling.max_new_tokens:
            yield flight
            return
        flights = self._flights.setdefault(session, set())
        flights.add(flight)
        try:
            yield flight
        finally:
            if flight.ended is not None:
                flight.ended.set()
            flights.remove(flight)
            if not flights:
                del self._flights[session]

    async def _generate(self, body: Callable[[str], bytes], flight: _Flight) -> Reply:
        if flight.interrupted():
            return NOTHING
        with anyio.CancelScope() as flight.queueing:
            await self._may_ask()
            async with self._http.requests:  # cancelled while it waits here, a request has nothing to abort
                flight.rid = uuid.uuid4().hex
                try:
                    return await self._send(body(flight.rid), flight.rid)
                except EngineRefused:
                    # SGLang refuses what was aborted before it began: its own queues answer 400.
                    if flight.interrupted():
                        return NOTHING
                    raise
                finally:
                    flight.rid = ""
        return NOTHING

    async def _send(self, body: bytes, rid: str) -> Reply:
        try:
            reply = read_reply(self.url, await self._http.send("POST", "/generate", body, timeout_s=self._reply_s))
        except (EngineUnavailable, anyio.get_cancelled_exc_class()) as error:
            if isinstance(error, EngineUnavailable) and self._circuit.failed(anyio.current_time()):
                self._trouble = f"it goes on failing and is asked less often: {error}"
                _log.warning("the engine goes on failing: it is asked less often", url=self.url, reason=str(error))
            if not isinstance(error, NeverSent):
                with anyio.move_on_after(ABORT_S, shield=True):
                    await self._abort(rid)
            raise
        except EngineError:
            self._answered()
            raise
        self._answered()
        return reply

    async def _may_ask(self) -> None:
        """Wait while the circuit is open. Raises EngineUnavailable where that lasts."""
        gone_at = anyio.current_time() + GONE_S
        while not self._circuit.asks(now := anyio.current_time()):
            if now >= gone_at:
                raise EngineUnavailable(f"{self.url} has failed too often; it is asked again soon")
            with anyio.move_on_after(min(self._circuit.wait_s(now), gone_at - now)):
                await self._closed.wait()

    def _answered(self) -> None:
        if self._circuit.open:
            _log.info("the engine answers again", url=self.url)
            self._closed.set()
            self._closed = anyio.Event()
            self._trouble = ""
        self._circuit.succeeded()

    async def _interrupt(self, flight: _Flight, ended: anyio.Event) -> None:
        pause_s = INTERRUPT_S
        while not ended.is_set():
            if flight.rid:
                await self._abort(flight.rid)
            else:
                flight.queueing.cancel("interrupted")
            with anyio.move_on_after(pause_s):
                await ended.wait()
            pause_s *= 2

    async def _abort(self, rid: str) -> None:
        """Tell the server to drop a request; if it cannot be told, its own look at the connection has to do."""
        try:
            await self._http.control("POST", "/abort_request", encode({"rid": rid}), timeout_s=ABORT_S)
        except EngineError:
            return
