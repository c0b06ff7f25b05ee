"""A fleet of engines that can die: families stay, move, and come back; runs end right."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trio.testing import MockClock

from agents.context import Origin, Segment
from agents.host import Outcome
from runtime.engine.base import Capacity, EngineRefused, EngineUnavailable, FinishReason, Generation, Sampling
from runtime.engine.fleet import PROBE_S, Fleet
from runtime.engine.scripted import ScriptedEngine, text_policy
from runtime.engine.sglang import SGLang
from runtime.swarm import Swarm
from tests.runtime.engine.stub import OK, Asked, serve
from tests.support import ledgers, survey, tiny_chat, tiny_model

pytestmark = pytest.mark.anyio

_numbers = itertools.count(1)
SAMPLING = Sampling(max_new_tokens=4)


class Mortal(ScriptedEngine):
    """A scripted worker that can be killed, with what it has in flight, and brought back with nothing in its cache."""

    def __init__(self, policy: Any = lambda ids: [7] * 8, **options: Any) -> None:
        super().__init__(policy, **options)
        self.alive = True
        self.served: list[tuple[str, Segment, Sampling]] = []
        self.released: list[str] = []
        self._in_flight: set[anyio.CancelScope] = set()

    def die(self) -> None:
        """Break off every request and answer no more."""
        self.alive = False
        self.tree.flush()
        for scope in self._in_flight:
            scope.cancel()

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """As a client does whose server may be gone."""
        if self.alive:
            self.served.append((session, context, sampling))
            with anyio.CancelScope() as scope:
                self._in_flight.add(scope)
                try:
                    return await super().generate(context, sampling, session=session)
                finally:
                    self._in_flight.remove(scope)
        await anyio.lowlevel.checkpoint()
        raise EngineUnavailable("connection refused")

    async def capacity(self) -> Capacity:
        """As a client does whose server may be gone."""
        if not self.alive:
            raise EngineUnavailable("connection refused")
        return await super().capacity()

    async def release(self, session: str) -> None:
        """Noted."""
        self.released.append(session)
        await super().release(session)

    async def healthy(self) -> bool:
        """While it lives."""
        await anyio.lowlevel.checkpoint()
        return self.alive


def _given(parent: Segment | None = None, length: int = 20) -> Segment:
    number = next(_numbers)
    return Segment(number, parent, Origin.GIVEN, [number % 250] * length)


@asynccontextmanager
async def _fleet(*workers: Mortal) -> AsyncIterator[Fleet]:
    async with Fleet(workers) as fleet:
        yield fleet


async def test_a_family_stays_together() -> None:
    """Every context with one root goes to one worker; strangers go to the other."""
    workers = Mortal(), Mortal()
    async with _fleet(*workers) as fleet:
        roots = [_given(), _given()]
        for root in roots:
            copies = [_given(root) for _ in range(3)]
            for context in (root, *copies, _given(copies[0])):
                await fleet.generate(context, SAMPLING, session=f"s{context.id}")
                assert fleet.worker(context) == fleet.worker(root)
    assert [len(worker.served) for worker in workers] == [5, 5]
    assert fleet.worker(roots[0]) != fleet.worker(roots[1])


async def test_a_dead_workers_families_move() -> None:
    """What was in flight there is asked again elsewhere; one request computes the shared prefix, the others find it."""
    started = anyio.Event()

    async def pace(_computed: int, _sampled: int) -> None:
        started.set()
        await anyio.sleep_forever()

    dying, other = Mortal(pace=pace), Mortal()
    async with _fleet(dying, other) as fleet:
        trunk = _given(length=500)
        assert fleet.worker(trunk) == 0
        stranger = _given()
        await fleet.generate(stranger, SAMPLING, session="stranger")
        replies: list[Generation] = []

        async def run(copy: Segment) -> None:
            replies.append(await fleet.generate(copy, SAMPLING, session=f"s{copy.id}"))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(run, _given(trunk))
            await started.wait()
            dying.die()
        assert fleet.worker(trunk) == fleet.worker(stranger) == 1
        assert all(reply.cached_tokens >= trunk.length for reply in replies)
        assert len(replies) == 4
        assert [sampling.max_new_tokens for _, _, sampling in other.served].count(0) == 1
        await fleet.release(f"s{trunk.id + 2}")
    assert other.released == [f"s{trunk.id + 2}"]


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})], ids=["mock clock"])
async def test_a_worker_comes_back() -> None:
    """For new families only, and after it was told which sessions have ended meanwhile; until then that is trouble."""
    one, two = Mortal(), Mortal()
    async with _fleet(one, two) as fleet:
        moved = _given()
        await fleet.generate(moved, SAMPLING, session="m")
        one.die()
        await fleet.generate(moved, SAMPLING, session="m")
        await fleet.release("m")
        assert (one.released, two.released) == ([], ["m"])
        assert fleet.worker(_given()) == 1
        assert fleet.trouble() == "0 is gone: connection refused"
        one.alive = True
        await anyio.sleep(PROBE_S + 0.1)
        assert one.released == ["m"]
        assert fleet.trouble() == ""
        assert fleet.worker(moved) == 1
        assert fleet.worker(_given()) == 0


async def test_all_dead() -> None:
    """Unavailable, naming them; and a fleet that is back is used again."""
    one, two = Mortal(), Mortal()
    async with _fleet(one, two) as fleet:
        one.die()
        two.die()
        assert not await fleet.healthy()
        with pytest.raises(EngineUnavailable, match="no worker answers: 0, 1"):
            await fleet.generate(_given(), SAMPLING, session="s")
        two.alive = True
        assert await fleet.healthy()
        await fleet.generate(_given(), SAMPLING, session="s")
    assert len(two.served) == 1


async def test_a_failure_of_a_worker_that_lives_is_the_requests_own() -> None:
    """It is not moved, and does not kill one worker after the other."""

    class Failing(Mortal):
        async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
            self.served.append((session, context, sampling))
            await anyio.lowlevel.checkpoint()
            raise EngineUnavailable("500: boom")

    one, two = Failing(), Failing()
    async with _fleet(one, two) as fleet:
        with pytest.raises(EngineUnavailable, match="boom"):
            await fleet.generate(_given(), SAMPLING, session="s")
    assert len(one.served) + len(two.served) == 1
    assert fleet.placement.live == [True, True]


async def test_a_generation_is_interrupted_while_it_moves() -> None:
    """It had nothing, and returns that, instead of beginning on another worker."""
    warming, go_on = anyio.Event(), anyio.Event()

    async def pace(_computed: int, sampled: int) -> None:
        if not sampled:
            warming.set()
            await go_on.wait()

    one, two = Mortal(), Mortal(pace=pace)
    async with _fleet(one, two) as fleet:
        context = _given()
        await fleet.generate(context, SAMPLING, session="s")
        one.die()
        replies: list[Generation] = []

        async def run() -> None:
            replies.append(await fleet.generate(context, SAMPLING, session="s"))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await warming.wait()
            await fleet.interrupt("s")
            go_on.set()
    assert (replies[0].tokens, replies[0].finish) == ((), FinishReason.ABORT)


async def test_a_fleet_is_as_large_as_its_smallest_worker() -> None:
    """Its pool and its batch are the smallest ones; its workers are counted."""
    async with _fleet(
        Mortal(pool_tokens=500, running_requests=9), Mortal(pool_tokens=900, running_requests=3)
    ) as fleet:
        capacity = await fleet.capacity()
    assert (capacity.workers, capacity.pool_tokens, capacity.running_requests) == (2, 500, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "/models/b"}, "different models: 0: scripted, 1: b"),
        ({"context_tokens": 100}, "different context lengths: 0: 32768, 1: 100"),
        ({"page_tokens": 16}, "different page sizes: 0: 1, 1: 16"),
    ],
)
async def test_workers_that_do_not_fit_together(options: dict[str, Any], said: str) -> None:
    """One line that says who serves what."""
    async with _fleet(Mortal(), Mortal(**options)) as fleet:
        with pytest.raises(EngineRefused, match=said):
            await fleet.capacity()


async def test_a_run_outlives_a_worker(tmp_path: Path) -> None:
    """Two runs share a fleet; one worker dies in the middle; both end right, on the other."""
    requests = itertools.count()

    async def pace(_computed: int, _sampled: int) -> None:
        if next(requests) == 7:
            workers[0].die()
        await anyio.sleep(0.005)

    policy = text_policy(tiny_chat(), survey)
    workers = [Mortal(policy, model=tiny_model(), pace=pace) for _ in range(2)]
    answers: dict[str, str] = {}

    async def one(name: str, figures: list[int]) -> None:
        directory = tmp_path / name
        directory.mkdir()
        ledgers(directory, figures)
        async with Swarm(fleet, directory) as swarm:
            lead = await swarm.start("What do the ledgers add up to?")
            result = await lead.result()
            assert result.outcome is Outcome.FINISHED
            answers[name] = result.text

    async with _fleet(*workers) as fleet:
        async with anyio.create_task_group() as group:
            group.start_soon(one, "first", [1, 20, 300, 4000])
            group.start_soon(one, "second", [5, 60, 700])
        assert fleet.placement.live == [False, True]
    assert answers == {"first": "4321", "second": "765"}
    assert workers[1].tree.sessions == 0


async def test_a_fleet_of_servers() -> None:
    """Several addresses make a fleet, each with its key; as many keys as addresses, or one."""

    async def answer(_request: Asked) -> tuple[int, object]:
        return 200, OK

    contexts = [_given(), _given()]
    async with serve(answer) as one, serve(answer) as two:
        async with SGLang.connect([one.url, two.url], api_key=["k1", "k2"]) as fleet:
            for context in contexts:
                await fleet.generate(context, SAMPLING, session="s")
        assert [stub.asked[0].headers["authorization"] for stub in (one, two)] == ["Bearer k1", "Bearer k2"]
    with pytest.raises(EngineRefused, match="2 servers were given 1 keys"):
        SGLang.connect([one.url, two.url], api_key=["k1"])
