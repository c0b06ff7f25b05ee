"""A real server, an engine on it, and agents on that engine whose words are decided by a script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
import pytest

from agents.chat import Chat
from runtime.engine._http import Http
from runtime.engine.server import Server
from runtime.engine.sglang import SGLang
from tests.e2e.forced import Forced


@dataclass
class Real:
    """A running server and what asks it."""

    server: Server
    engine: SGLang
    chat: Chat
    http: Http

    def forced(self, decide: Callable[[str], str]) -> Forced:
        """An engine that says what `decide` says."""
        return Forced(self.engine, self.chat, decide)

    async def requests(self) -> int:
        """How many requests the server runs or keeps waiting."""
        loads = json.loads(await self.http.control("GET", "/v1/loads?include=core"))["loads"]
        return sum(load["num_running_reqs"] + load["num_waiting_reqs"] for load in loads)

    async def flush(self) -> None:
        """Empty the cache; a server that still works on something refuses, so wait for that."""
        with anyio.fail_after(20):
            while await self.requests():  # noqa: ASYNC110 (a server tells nobody)
                await anyio.sleep(0.05)
        await self.http.control("POST", "/flush_cache")


@pytest.fixture
async def real(sglang_server: Server) -> AsyncIterator[Real]:
    """The session's server, its cache empty."""
    async with (
        SGLang.connect(sglang_server.url, api_key=sglang_server.api_key) as engine,
        Http(sglang_server.url, api_key=sglang_server.api_key, connections=1) as http,
    ):
        real = Real(sglang_server, engine, Chat.load(sglang_server.model), http)
        await real.flush()
        yield real
