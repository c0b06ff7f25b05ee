"""What an engine says of itself: a server that is ready and yet fails everybody is seen."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import anyio
import pytest

from agents.context import Origin, Segment
from agents.host import Outcome
from runtime.engine.around import EngineAround
from runtime.engine.base import EngineUnavailable, Sampling
from runtime.engine.fleet import Fleet
from runtime.engine.scripted import text_policy
from runtime.engine.sglang import SGLang
from runtime.recorder import records
from runtime.records import Outage
from runtime.swarm import Swarm
from tests.chaos.leftovers import nothing_held, nothing_left
from tests.chaos.server import Chaos, chaos
from tests.support import call, tiny_chat, tiny_model

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SAMPLING = Sampling(max_new_tokens=64)


def failing() -> Chaos:
    """A server that answers everything but what it is for."""
    policy = text_policy(tiny_chat(), lambda _: call("finish", result="x"))
    return Chaos(policy, tiny_model(), random.Random(1), share=1.0, faults=["error"])


async def _ask(engine: SGLang, number: int) -> None:
    context = Segment(number, None, Origin.GIVEN, tiny_chat().begin("s", str(number)))
    await engine.generate(context, SAMPLING, session=f"s{number}")


async def test_an_open_circuit_is_said() -> None:
    """While it is open the engine says so, with what opened it, though it is ready; when it closes there is no trouble.

    An engine around it says the same, and a fleet says of whom.
    """
    server, well = failing(), failing()
    well.share = 0
    async with (
        nothing_left(),
        chaos(server),
        chaos(well),
        SGLang.connect(server.url, attempts=2) as engine,
        SGLang.connect(well.url) as other,
        Fleet([engine, other], ["one", "two"]) as fleet,
    ):
        for number in range(6):
            assert engine.trouble() == fleet.trouble() == ""
            with pytest.raises(EngineUnavailable, match="failed with 50"):
                await _ask(engine, number)
        trouble = engine.trouble()
        assert trouble.startswith("it goes on failing and is asked less often: ")
        assert f"{server.url}/generate failed with 50" in trouble
        assert await engine.healthy()
        assert EngineAround(engine).trouble() == engine.trouble() == trouble
        assert fleet.trouble() == f"one: {trouble}"
        server.share = 0
        with anyio.fail_after(20):
            await _ask(engine, 6)
        assert engine.trouble() == fleet.trouble() == ""
        nothing_held(engine)


async def _tree(directory: Path, *options: str) -> str:
    """What a second process reads from the journal of a run that goes on."""
    ramet = [sys.executable, "-m", "runtime.cli", "tree", str(directory), *options]
    return (await anyio.run_process(ramet, cwd=ROOT)).stdout.decode()


async def test_an_open_circuit_is_seen_in_the_tree(tmp_path: Path) -> None:
    """Agents fail on a server that says that it is ready: the run's tree says why, to another process too, until an
    agent's turn comes out well."""
    server = failing()
    async with nothing_left(), chaos(server), SGLang.connect(server.url, attempts=2) as engine:
        async with Swarm(engine, tmp_path) as swarm:
            leads = [await swarm.start(f"task {number}") for number in range(6)]
            assert {(await lead.result()).outcome for lead in leads} == {Outcome.FAILED}
            said = json.loads(await _tree(tmp_path, "--json"))["engine_trouble"]
            assert "it goes on failing and is asked less often: http" in said["reason"]
            server.share = 0
            # The first may be too early: while the circuit is open one request is let through in each pause.
            with anyio.fail_after(30):
                while (await (await swarm.start("again")).result()).outcome is not Outcome.FINISHED:
                    pass
            assert "trouble" not in await _tree(tmp_path)
        nothing_held(engine)
    outages = [record for record in records(swarm.layout) if isinstance(record, Outage)]
    assert [record.over for record in outages] == [False, True]
    assert "failed with 50" in outages[0].reason
