"""A server that speaks SGLang's routes over real connections, and fails by seed: refused, reset, slow, 5xx, cut.

Owns its port, which stays the same however often it goes away and comes back, the faults it injects and the times at
which it was asked. Its model is a script and its cache a real radix tree, as `tests/runtime/cli/server.py` has it.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.runtime.cli.server import ScriptedServer

__all__ = ["FAULTS", "Chaos", "chaos"]

FAULTS = ("reset", "slow", "full", "error", "half", "garbled", "silent")


class Chaos:
    """The server. `share` of the generations, chosen by `chances`, come to one of `faults`."""

    def __init__(
        self,
        policy: Callable[[list[int]], Sequence[int]],
        model: str,
        chances: random.Random,
        *,
        share: float = 0.0,
        faults: Sequence[str] = FAULTS,
    ) -> None:
        self.model = ScriptedServer(policy, model)
        self.chances, self.share, self.faults = chances, share, faults
        self.url = ""
        self.asked: list[float] = []  # when, for `/generate`
        self.injected: dict[str, int] = {}
        self.looked = 0  # requests for `/ready`
        self.busy = 0
        self.hold: anyio.Event | None = None  # generations wait for it
        self._port = 0

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Listen, until the block ends: then every connection is closed, and new ones are refused."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=self._port)
        async with listener, anyio.create_task_group() as group:
            self._port = listener.extra(SocketAttribute.local_port)
            self.url = f"http://127.0.0.1:{self._port}"
            group.start_soon(listener.serve, self._connection)
            try:
                yield
            finally:
                group.cancel_scope.cancel()

    async def wait_busy(self, number: int) -> None:
        """Until so many generations are under way."""
        while self.busy < number:  # noqa: ASYNC110 (counted by connections, which tell nobody)
            await anyio.sleep(0.002)

    async def _connection(self, stream: SocketStream) -> None:
        async with stream:
            buffered = BufferedByteReceiveStream(stream)
            try:
                while True:
                    head = (await buffered.receive_until(b"\r\n\r\n", 65536)).decode()
                    lengths = [line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                    body = await buffered.receive_exactly(int(lengths[0])) if lengths and int(lengths[0]) else b"{}"
                    data = await self._answer(head.split()[1], json.loads(body))
                    await stream.send(data)
                    if not data.startswith(b"HTTP/1.1 200") or b"\r\nconnection: close" in data:
                        return
            except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async def _answer(self, path: str, body: dict[str, object]) -> bytes:
        if path == "/ready":
            self.looked += 1
        if path != "/generate":
            return _reply(200, json.dumps(self.model.info()).encode())
        self.asked.append(anyio.current_time())
        self.busy += 1
        try:
            if self.hold is not None:
                await self.hold.wait()
            return await self._generated(body)
        finally:
            self.busy -= 1

    async def _generated(self, body: dict[str, object]) -> bytes:
        fault = self.chances.choice(list(self.faults)) if self.chances.random() < self.share else ""
        if fault:
            self.injected[fault] = self.injected.get(fault, 0) + 1
        right = json.dumps(self.model.generate(body)).encode() if fault in ("", "slow", "half", "garbled") else b""
        match fault:
            case "reset":
                raise anyio.EndOfStream
            case "slow":
                await anyio.sleep(self.chances.uniform(0.01, 0.05))
            case "silent":
                await anyio.sleep(self.chances.uniform(0.01, 0.05))
                raise anyio.EndOfStream
            case "full":
                return _reply(503, b'{"error": {"message": "The request queue is full."}}')
            case "error":
                return _reply(self.chances.choice((500, 502, 504)), b"boom")
            case "half":
                return _reply(200, right)[: -max(1, len(right) // 2)].replace(b"X\r\n", b"X\r\nconnection: close\r\n")
            case "garbled":
                cut = right[: self.chances.randrange(len(right))]
                return _reply(200, cut).replace(b"X\r\n", b"X\r\nconnection: close\r\n")
        return _reply(200, right)


def _reply(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


@asynccontextmanager
async def chaos(server: Chaos) -> AsyncIterator[Chaos]:
    """Have it up for the whole block."""
    async with server.up():
        yield server
