"""HTTP to one server: the only module that knows httpx.

Owns the connections and the limiter in front of them, and turns everything that can go wrong on the way into
the engine's two errors.

Invariants:
- requests queue at our limiters and never inside httpx's pool, where cancelling a queued request can wedge the pool
  for good: every permit has a connection of its own;
- control requests (abort, close, health) have permits of their own, so that a full engine can still be told to stop;
- a request is sent again only if the caller says that a repeat is harmless.

It uses httpx's transport and not its client: redirects, cookies and proxies are not wanted between us and an engine,
and without them a request costs up to a fifth less processor time (1.6 instead of 2.0 ms, 8 kB body, trio). And it
keeps a stack of transports with one connection each, because a pool looks at all its connections with every request:
with 256 of them that was a third of all processor time that a swarm used.
Knows nothing of SGLang's routes.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import anyio
import httpx  # noqa: TID251 (this is the one module that may)

from runtime.engine.base import EngineRefused, EngineUnavailable

__all__ = ["Http", "NeverSent", "TimedOut", "repeating"]

T = TypeVar("T")

CONTROL_PERMITS = 8  # aborts of a whole cancelled swarm go out eight at a time; each takes about a millisecond
CONNECT_S = 5.0  # a listening server accepts at once, even when it is busy
# Idle connections are dropped by us before the server's own 5 s (uvicorn's default) are over, so that a request is
# not sent on a connection that the server is closing.
KEEP_ALIVE_S = 3.0
BACKOFF_S = 0.2  # first pause; doubles each time, with jitter so that a swarm does not come back in step
ERROR_CHARACTERS = 500  # of a refusal's body, shown to a person


class NeverSent(EngineUnavailable):
    """No connection came about, or the server turned the request away unread: repeating it is always harmless."""


class TimedOut(EngineUnavailable):
    """The server accepted the request and did not answer in time."""


class _Body(httpx.AsyncByteStream):
    """A request's body. httpx's own is an async generator: trio complains of one that a broken connection leaves."""

    def __init__(self, data: bytes) -> None:
        self._left = [data] if data else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class Http:
    """A pool of connections to one server. Use as an async context manager."""

    def __init__(self, url: str, *, api_key: str | None = None, connections: int = 256) -> None:
        base = httpx.URL(url)
        if base.scheme not in ("http", "https") or not base.host:
            raise EngineRefused(f"not an http:// or https:// address: {url!r}")
        self.url = url.rstrip("/")
        self.requests = anyio.CapacityLimiter(connections)
        self._control = anyio.CapacityLimiter(CONTROL_PERMITS)
        self._headers = [("content-type", "application/json")]
        if api_key is not None:
            self._headers.append(("authorization", f"Bearer {api_key}"))
        # One TLS context for all of them: making one reads every certificate of the system.
        self._tls = httpx.create_ssl_context(trust_env=False) if base.scheme == "https" else False
        self._idle: list[httpx.AsyncHTTPTransport] = []  # the one used last is on top, so that the rest can expire
        self._all: list[httpx.AsyncHTTPTransport] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.move_on_after(2, shield=True):
            for transport in self._all:
                await transport.aclose()

    async def control(self, method: str, path: str, body: bytes = b"", *, timeout_s: float = 10.0) -> bytes:
        """One attempt with a control permit of its own. Errors: see `send`."""
        async with self._control:
            return await self.send(method, path, body, timeout_s=timeout_s)

    async def send(self, method: str, path: str, body: bytes, *, timeout_s: float) -> bytes:
        """One attempt by a caller who holds one of `requests`; returns the reply's body.

        Raises EngineRefused for 4xx; EngineUnavailable for 5xx and for what breaks on the way.

        Of the latter, NeverSent where the server did not take the request, TimedOut where it did not answer.
        """
        timeout = {"connect": CONNECT_S, "read": timeout_s, "write": timeout_s, "pool": None}
        request = httpx.Request(
            method, self.url + path, headers=self._headers, content=body, extensions={"timeout": timeout}
        )
        request.stream = _Body(body)
        transport = self._idle.pop() if self._idle else self._connection()
        try:
            response = await transport.handle_async_request(request)
            try:
                content = await response.aread()
            finally:
                with anyio.CancelScope(shield=True):  # closing a socket; does not wait for the network
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NeverSent(f"cannot reach {self.url}: {str(error) or type(error).__name__}") from error
        except httpx.TimeoutException as error:
            raise TimedOut(f"{self.url}{path} did not answer in {timeout_s:.0f} s") from error
        except httpx.TransportError as error:
            raise EngineUnavailable(f"{self.url}{path} broke off: {str(error) or type(error).__name__}") from error
        finally:
            self._idle.append(transport)
        code = response.status_code
        if code < 300:
            return content
        shown = content[:ERROR_CHARACTERS].decode(errors="replace").strip()
        if code == 503:  # SGLang: its queue is full, or it is not ready; the request was not started
            raise NeverSent(f"{self.url}{path} is not taking requests: {shown or code}")
        if code >= 500:
            raise EngineUnavailable(f"{self.url}{path} failed with {code}: {shown}")
        raise EngineRefused(f"{self.url}{path} refused with {code}: {shown}", status=code)

    def _connection(self) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_ALIVE_S)
        transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False, verify=self._tls)
        self._all.append(transport)
        return transport


async def repeating(attempt: Callable[[], Awaitable[T]], harmless: type[EngineUnavailable], attempts: int) -> T:
    """Call `attempt` up to `attempts` times while it fails with `harmless`, pausing longer each time.

    Raises what the last attempt raised. A TimedOut is never repeated: the time is spent.
    """
    for n in range(attempts - 1):
        try:
            return await attempt()
        except TimedOut:
            raise
        except harmless:
            await anyio.sleep(BACKOFF_S * 2**n * random.uniform(0.5, 1.5))
    return await attempt()
