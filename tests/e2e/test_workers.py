"""Real servers that die: one of two behind an engine, and one that comes back at its address."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from agents.host import Outcome
from runtime.engine import server
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


def other_weights(model: str, into: Path) -> str:
    """The same model with weights that are all zero."""
    shutil.copytree(model, into)
    stored = (into / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(stored[:8], "little")  # of the header, which says what lies where
    (into / "model.safetensors").write_bytes(stored[:end] + bytes(len(stored) - end))
    return str(into)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # two servers more take a minute
async def test_a_server_is_restarted_with_other_weights(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run waits for a server that was killed, goes on when one is at its address again, and ends right."""
    port, key = server._free_port(), "of both servers"
    monkeypatch.setattr(server, "_free_port", lambda: port)
    monkeypatch.setattr(server.secrets, "token_hex", lambda _bytes: key)
    ready, killed, over = anyio.Event(), anyio.Event(), anyio.Event()
    pids: list[int] = []
    versions: set[str] = set()

    async def serve() -> None:
        models = [real.server.model, other_weights(real.server.model, tmp_path / "other")]
        for version, model, until in zip(("first", "second"), models, (killed, over), strict=True):
            options = structs.replace(SERVER, flags=(*SERVER.flags, "--weight-version", version))
            async with managed_server(model, options, log=tmp_path / f"{version}.log") as one:
                pids.append(one.pid)
                ready.set()
                await until.wait()

    def observe(record: Record) -> None:
        if isinstance(record, Sampled):
            versions.add(record.version)
            if record.agent != "a1" and not killed.is_set():  # a copy works
                os.kill(pids[0], signal.SIGKILL)
                killed.set()

    directory = tmp_path / "work"
    directory.mkdir()
    ledgers(directory, [1, 20, 300])
    async with anyio.create_task_group() as group, SGLang.connect(f"http://127.0.0.1:{port}", api_key=key) as engine:
        group.start_soon(serve)
        await ready.wait()
        async with Swarm(Forced(engine, real.chat, survey), directory, observers=[observe]) as swarm:
            result = await (await swarm.start("What do the ledgers add up to?")).result()
        over.set()
    assert result.outcome is Outcome.FINISHED, result
    assert "321" in result.text
    assert len(pids) == 2
    assert versions == {"first", "second"}
