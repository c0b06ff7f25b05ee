"""A small HTTP server that answers as it is told to, well or badly: for tests of what a client does then."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

OK = {
    "output_ids": [5, 6],
    "meta_info": {
        "finish_reason": {"type": "stop", "matched": 6},
        "prompt_tokens": 3,
        "cached_tokens": 2,
        "weight_version": "v1",
        "output_token_logprobs": [[-0.5, 5, None], [-0.25, 6, None]],
    },
}


class Broken(Exception):
    """Raised by an answer to close the connection after sending `data`."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data


@dataclass
class Asked:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """Its body."""
        decoded: dict[str, object] = json.loads(self.body)
        return decoded


Answer = Callable[[Asked], Awaitable[tuple[int, object]]]


@dataclass
class Stub:
    """What has been asked, and how many requests were being answered at most at once."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    busy: int = 0
    most: int = 0
    arrived: anyio.Condition = field(default_factory=anyio.Condition)

    async def wait_busy(self, number: int) -> None:
        """Until that many requests are being answered."""
        async with self.arrived:
            while self.busy < number:
                await self.arrived.wait()

    def on(self, path: str) -> list[Asked]:
        """The requests for one path."""
        return [request for request in self.asked if request.path == path]


@asynccontextmanager
async def serve(answer: Answer) -> AsyncIterator[Stub]:
    """Serve on a free port; `answer` gives a status and a JSON value for each request."""
    stub = Stub()

    async def connection(stream: SocketStream) -> None:
        async with stream:
            buffered = BufferedByteReceiveStream(stream)
            while True:
                try:
                    head = (await buffered.receive_until(b"\r\n\r\n", 65536)).decode()
                except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
                    return
                first, *lines = head.split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                length = int(headers.get("content-length", "0"))
                body = await buffered.receive_exactly(length) if length else b""
                request = Asked(first.split()[0], first.split()[1], headers, body)
                stub.asked.append(request)
                stub.busy += 1
                stub.most = max(stub.most, stub.busy)
                async with stub.arrived:
                    stub.arrived.notify_all()
                try:
                    try:
                        status, value = await answer(request)
                    finally:
                        stub.busy -= 1  # before the reply: the next request may follow at once
                    encoded = json.dumps(value).encode()
                    reply = f"HTTP/1.1 {status} X\r\ncontent-length: {len(encoded)}\r\n\r\n".encode() + encoded
                    await stream.send(reply)
                except Broken as broken:
                    if broken.data:
                        await stream.send(broken.data)
                    return
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        stub.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        group.start_soon(listener.serve, connection)
        try:
            yield stub
        finally:
            group.cancel_scope.cancel()
