"""A real server that is killed, or loses its cache, in the middle of a swarm."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from agents.chat import Chat
from agents.host import Outcome
from runtime.engine._http import Http
from runtime.engine.base import EngineRefused, EngineUnavailable
from runtime.engine.server import Server, managed_server
from runtime.engine.sglang import SGLang
from runtime.records import Record, Sampled
from runtime.swarm import Swarm
from tests.chaos.leftovers import nothing_held
from tests.conftest import SERVER
from tests.e2e.forced import Forced
from tests.support import ledgers, survey

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

FIGURES = [1, 20, 300]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # a server more takes half a minute
async def test_killed_and_resumed_on_another(sglang_server: Server, tmp_path: Path) -> None:
    """The server is killed while copies work: the run stops and says why; on a new one it ends right, nothing lost."""
    ledgers(tmp_path, FIGURES)
    killed: list[int] = []
    async with managed_server(sglang_server.model, SERVER, log=tmp_path.with_suffix(".log")) as doomed:

        def observe(record: Record) -> None:
            if isinstance(record, Sampled) and record.agent != "a1" and not killed:
                killed.append(record.segment)
                os.kill(doomed.pid, signal.SIGKILL)

        with pytest.raises(ExceptionGroup) as stopped:  # noqa: PT012
            async with SGLang.connect(doomed.url, api_key=doomed.api_key) as engine:
                chat = Chat.load(doomed.model)
                forced = Forced(engine, chat, survey)
                async with Swarm(forced, tmp_path, patience_s=2, observers=[observe]) as swarm:
                    await (await swarm.start("add up")).result()
        nothing_held(engine)
    assert stopped.group_contains(EngineUnavailable, depth=None)
    before = {number: segment.ids() for number, segment in swarm.state.segments.items()}
    assert killed[0] in before
    async with SGLang.connect(sglang_server.url, api_key=sglang_server.api_key) as engine:
        async with Swarm(Forced(engine, chat, survey), tmp_path, resume=swarm.layout) as resumed:
            result = await resumed.handles()[0].result()
        nothing_held(engine)
    assert (result.outcome, result.text) == (Outcome.FINISHED, str(sum(FIGURES)))
    assert {number: resumed.state.segments[number].ids() for number in before} == before


async def test_flushed_in_the_middle(sglang_server: Server, tmp_path: Path) -> None:
    """The cache is emptied while copies work: what is missing is computed again, counted, and the answer is right."""
    ledgers(tmp_path, [*FIGURES, 4_000, 50_000])
    sampled, flushed = anyio.Event(), anyio.Event()

    def observe(record: Record) -> None:
        if isinstance(record, Sampled) and record.agent != "a1":
            sampled.set()

    async with (
        SGLang.connect(sglang_server.url, api_key=sglang_server.api_key) as engine,
        Http(sglang_server.url, api_key=sglang_server.api_key, connections=1) as http,
        anyio.create_task_group() as group,
    ):

        async def flush() -> None:
            await sampled.wait()
            while not flushed.is_set():
                try:
                    await http.control("POST", "/flush_cache")
                    flushed.set()
                except EngineRefused:  # while it works on anything
                    await anyio.sleep(0.001)

        group.start_soon(flush)
        chat = Chat.load(sglang_server.model)
        async with Swarm(Forced(engine, chat, survey), tmp_path, observers=[observe]) as swarm:
            result = await (await swarm.start("add up")).result()
        group.cancel_scope.cancel()
        nothing_held(engine)
    assert (result.outcome, result.text) == (Outcome.FINISHED, "54321")
