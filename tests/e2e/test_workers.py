"""Two real servers behind one engine, one of which dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from agents.host import Outcome
from runtime.engine.server import managed_server
from runtime.engine.sglang import SGLang
from runtime.records import Record, Sampled
from runtime.swarm import Swarm
from tests.conftest import SERVER
from tests.e2e.conftest import Real
from tests.e2e.forced import Forced
from tests.support import ledgers, survey

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # a server more takes half a minute
async def test_a_server_dies_in_the_middle(real: Real, tmp_path: Path) -> None:
    """The runs on it go on at the other, with their families together and computed once; all end right."""
    figures = {"one": [1, 20, 300], "two": [4, 50, 600]}
    answers: dict[str, str] = {}
    shared = real.server
    async with (
        managed_server(shared.model, SERVER, log=tmp_path / "server.log") as doomed,
        SGLang.connect([shared.url, doomed.url], api_key=[shared.api_key, doomed.api_key]) as fleet,
    ):
        assert (await fleet.capacity()).workers == 2
        engine = Forced(fleet, real.chat, survey)

        async def run(name: str) -> None:
            directory = tmp_path / name
            directory.mkdir()
            ledgers(directory, figures[name])
            async with Swarm(engine, directory) as swarm:

                def observe(record: Record) -> None:
                    a_copy_works = isinstance(record, Sampled) and record.agent != "a1"
                    if a_copy_works and not killed and fleet.worker(swarm.state.agents["a1"].base) == 1:
                        killed.append(name)
                        os.kill(doomed.pid, signal.SIGKILL)

                swarm._recorder.observers.append(observe)
                result = await (await swarm.start(f"What do the ledgers of {name} add up to?")).result()
            assert result.outcome is Outcome.FINISHED, result
            answers[name] = result.text

        killed: list[str] = []

        async with anyio.create_task_group() as group:
            for name in figures:
                group.start_soon(run, name)
        assert len(killed) == 1
        assert fleet.placement.live == [True, False]
        assert await fleet.healthy()
    assert answers == {name: str(sum(each)) for name, each in figures.items()}
