"""Swarms on servers that fail in every way that a network and a process can."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest

from agents.host import Outcome
from runtime.engine._circuit import FAILURES
from runtime.engine.base import EngineUnavailable
from runtime.engine.scripted import text_policy
from runtime.engine.sglang import ATTEMPTS, SGLang
from runtime.recorder import load, records
from runtime.records import Outage, Record, Sampled, Settings
from runtime.swarm import Swarm
from tests.chaos.leftovers import nothing_held, nothing_left
from tests.chaos.server import FAULTS, Chaos, chaos
from tests.support import call, ledgers, survey, tiny_chat, tiny_model

pytestmark = pytest.mark.anyio

FIGURES = [3, 14, 15, 92, 6]


def surveyor(seed: int, **options: object) -> Chaos:
    """A server whose model surveys ledgers."""
    return Chaos(text_policy(tiny_chat(), survey), tiny_model(), random.Random(seed), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1, 2])
async def test_faults_of_every_kind(tmp_path: Path, seed: int) -> None:
    """With a quarter of all replies broken the answer is right; or an agent has failed, and its outcome says how."""
    ledgers(tmp_path, FIGURES)
    server = surveyor(seed, share=0.25)
    async with nothing_left(), chaos(server), SGLang.connect(server.url) as engine:
        async with Swarm(engine, tmp_path) as swarm:
            result = await (await swarm.start("add up")).result()
        nothing_held(engine)
    assert server.injected
    assert all(agent.outcome is not None for agent in swarm.state.agents.values())
    failed = [agent for agent in swarm.state.agents.values() if agent.outcome is Outcome.FAILED]
    assert all(agent.result.startswith("the engine failed: http") for agent in failed)
    if not failed:
        assert (result.outcome, result.text) == (Outcome.FINISHED, str(sum(FIGURES)))


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_alone(tmp_path: Path, fault: str) -> None:
    """One fault, every fifth time on average: the right answer, with no more requests than a few attempts a turn."""
    ledgers(tmp_path, FIGURES)
    server = surveyor(8, share=0.2, faults=[fault])
    async with chaos(server), SGLang.connect(server.url, attempts=6) as engine, Swarm(engine, tmp_path) as swarm:
        result = await (await swarm.start("add up")).result()
    assert [agent.result for agent in swarm.state.agents.values() if agent.outcome is not Outcome.FINISHED] == []
    assert (result.outcome, result.text) == (Outcome.FINISHED, str(sum(FIGURES)))
    assert server.injected
    turns = swarm.statistics().turns
    assert len(server.asked) <= turns + sum(server.injected.values()) + swarm.statistics().forks


async def test_a_server_that_is_gone_for_a_while(tmp_path: Path) -> None:
    """It goes away in the middle of a swarm, with requests in flight, and comes back: the run waits, says so, and ends
    right. Every turn that was recorded before is the same afterwards."""
    ledgers(tmp_path, FIGURES)
    server, gone = surveyor(1), anyio.Event()
    seen: set[str] = set()

    def observe(record: Record) -> None:
        if isinstance(record, Sampled) and record.agent != "a1" and not gone.is_set():
            gone.set()

    async with nothing_left(), anyio.create_task_group() as group:

        async def lives(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with server.up():
                task_status.started()
                await gone.wait()
            while "waiting for the engine to come back" not in seen:
                seen.update(agent.activity for agent in swarm.state.agents.values())
                await anyio.sleep(0.01)
            async with server.up():
                await ended.wait()

        ended = anyio.Event()
        swarm: Swarm
        await group.start(lives)
        async with SGLang.connect(server.url) as engine:
            async with Swarm(engine, tmp_path, observers=[observe]) as swarm:
                result = await (await swarm.start("add up")).result()
            nothing_held(engine)
        ended.set()
    assert (result.outcome, result.text) == (Outcome.FINISHED, str(sum(FIGURES)))
    assert load(swarm.layout).outcome is Outcome.FINISHED
    outages = [record for record in records(swarm.layout) if isinstance(record, Outage)]
    assert [record.over for record in outages] == [False, True] * (len(outages) // 2)
    assert outages[0].reason


async def test_a_server_that_stays_away_stops_the_run(tmp_path: Path) -> None:
    """After the swarm's patience the run stops, saying why; on another server it is resumed to its right answer."""
    ledgers(tmp_path, FIGURES)
    server, gone = surveyor(1), anyio.Event()
    async with nothing_left():
        with pytest.raises(ExceptionGroup) as stopped:  # noqa: PT012
            async with anyio.create_task_group() as group:

                async def lives(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                    async with server.up():
                        task_status.started()
                        await gone.wait()

                await group.start(lives)
                async with (
                    SGLang.connect(server.url, attempts=2) as engine,
                    Swarm(engine, tmp_path, patience_s=0.5, observers=[lambda r: _when_sampled(r, gone)]) as swarm,
                ):
                    await (await swarm.start("add up")).result()
        assert stopped.group_contains(EngineUnavailable, depth=None)
        again = surveyor(2)
        async with chaos(again), SGLang.connect(again.url) as engine:
            async with Swarm(engine, tmp_path, resume=swarm.layout) as resumed:
                result = await resumed.handles()[0].result()
            nothing_held(engine)
    assert (result.outcome, result.text) == (Outcome.FINISHED, str(sum(FIGURES)))


def _when_sampled(record: Record, event: anyio.Event) -> None:
    if isinstance(record, Sampled) and record.agent != "a1":
        event.set()


async def test_no_hot_loop(tmp_path: Path) -> None:
    """Sixty agents on a server that fails everything, but says that it is ready: each ends with the reason, and the
    server is asked about once by each, and then seldom."""
    server = surveyor(1, share=1.0, faults=["error"])
    async with nothing_left(), chaos(server), SGLang.connect(server.url, attempts=2) as engine:
        async with Swarm(engine, tmp_path) as swarm:
            leads = [await swarm.start(f"task {n}") for n in range(60)]
            results = [await lead.result() for lead in leads]
        nothing_held(engine)
    assert {result.outcome for result in results} == {Outcome.FAILED}
    assert all("failed with 50" in result.text or "failed too often" in result.text for result in results)
    # All are under way before the first has failed; after that the circuit lets one through in each pause.
    assert len(server.asked) <= 60 + FAILURES + ATTEMPTS
    late = [at for at in server.asked if at > server.asked[0] + 2]
    assert len(late) <= 10


async def test_restarted_with_other_weights_and_an_empty_cache(tmp_path: Path) -> None:
    """A flush is noticed by what the replies report; the turns after a change of weights carry the new version."""
    ledgers(tmp_path, FIGURES)
    server = surveyor(1)
    plain = server.model.generate

    def generate(body: dict[str, object]) -> dict[str, object]:
        if server.model.served == 4:
            server.model.tree.flush()
        reply = plain(body)
        reply["meta_info"]["weight_version"] = "old" if server.model.served <= 4 else "new"
        return reply

    server.model.generate = generate  # type: ignore[method-assign,assignment]
    async with chaos(server), SGLang.connect(server.url) as engine, Swarm(engine, tmp_path) as swarm:
        result = await (await swarm.start("add up")).result()
    assert result.text == str(sum(FIGURES))
    versions = {segment.version for segment in swarm.state.segments.values() if segment.version}
    assert versions == {"old", "new"}
    assert swarm.statistics().short_tokens > 0


@pytest.mark.parametrize("held", [True, False], ids=["generating", "between"])
async def test_a_cancelled_run_leaves_nothing(tmp_path: Path, held: bool) -> None:
    """Cancelled while requests are at the server, or wherever it happens to be: no task, stream, permit or request."""
    ledgers(tmp_path, FIGURES)
    server = surveyor(1)
    async with nothing_left(), chaos(server), SGLang.connect(server.url) as engine:
        with anyio.CancelScope() as scope:
            async with Swarm(engine, tmp_path) as swarm:
                lead = await swarm.start("add up")
                if held:
                    server.hold = anyio.Event()
                    await server.wait_busy(1)
                else:
                    while len(swarm.state.agents) < 3:  # noqa: ASYNC110 (anywhere will do)
                        await anyio.sleep(0.002)
                scope.cancel()
                await lead.result()
        nothing_held(engine)
        with anyio.fail_after(5):
            while server.busy and not server.hold:  # noqa: ASYNC110 (a server tells nobody)
                await anyio.sleep(0.01)
        if server.hold:
            server.hold.set()
    assert scope.cancelled_caught


async def test_a_cancelled_command_leaves_no_process(tmp_path: Path) -> None:
    """An agent is cancelled while its shell command runs: the command and all that it started are gone."""
    server = Chaos(
        text_policy(tiny_chat(), lambda _: call("shell", command="touch begun; sleep 600 & sleep 600")),
        tiny_model(),
        random.Random(1),
    )
    async with nothing_left(), chaos(server), SGLang.connect(server.url) as engine:
        async with Swarm(engine, tmp_path, settings=Settings(unsandboxed=True)) as swarm:
            lead = await swarm.start("sleep")
            with anyio.fail_after(20):
                while not (tmp_path / "begun").exists():  # noqa: ASYNC110 (another process)
                    await anyio.sleep(0.01)
            await lead.cancel()
        nothing_held(engine)
    assert lead.state.outcome is Outcome.CANCELLED
