"""What every engine promises, asked of the scripted one, one with a door, a fleet, and a real SGLang server alike."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random

import anyio
import pytest

from agents.context import Origin, Segment
from runtime.engine._http import Http
from runtime.engine.base import Engine, EngineRefused, FinishReason, Generation, Sampling
from runtime.engine.fleet import Fleet
from runtime.engine.scripted import ScriptedEngine
from runtime.engine.server import Server
from runtime.engine.sglang import SGLang
from runtime.rollouts.updating import HeldEngine

pytestmark = pytest.mark.anyio

_numbers = itertools.count()  # every context of the session is new to the shared server's cache
# Forces thousands of tokens from any weights, so that a request is certain to run while a test looks at it.
LONG = 3_900  # tokens: with a prompt of a hundred they fit the seedling's context
ENDLESS = json.dumps(
    {
        "type": "structural_tag",
        "format": {
            "type": "json_schema",
            "json_schema": {"type": "array", "items": {"type": "integer"}, "minItems": 5000},
        },
    }
)


@dataclass
class Subject:
    """An engine, and how many requests it is working on."""

    engine: Engine
    running: Callable[[], Awaitable[int]]


@pytest.fixture(params=["scripted", "held", "fleet", pytest.param("sglang", marks=pytest.mark.engine)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each engine in turn."""
    if request.param != "sglang":
        workers = [
            ScriptedEngine(_policy, pool_tokens=16_384, pace=lambda _computed, n: anyio.sleep(n / 1000))
            for _ in range(2 if request.param == "fleet" else 1)
        ]

        async def counted() -> int:
            return sum(worker.running for worker in workers)

        if request.param == "fleet":
            async with Fleet(workers) as fleet:
                yield Subject(fleet, counted)
        else:
            yield Subject(HeldEngine(workers[0]) if request.param == "held" else workers[0], counted)
        return
    server: Server = request.getfixturevalue("sglang_server")
    async with (
        SGLang.connect(server.url, api_key=server.api_key) as engine,
        Http(server.url, api_key=server.api_key, connections=1) as http,
    ):

        async def asked() -> int:
            loads = json.loads(await http.control("GET", "/v1/loads?include=core"))["loads"]
            return sum(load["num_running_reqs"] + load["num_waiting_reqs"] for load in loads)

        yield Subject(engine, asked)


def _policy(ids: list[int]) -> list[int]:
    random = Random(str(ids))
    return [random.randrange(32, 127) for _ in range(4000)]


def _given(length: int, parent: Segment | None = None) -> Segment:
    number = next(_numbers)
    random = Random(number)
    return Segment(number, parent, Origin.GIVEN, [random.randrange(32, 127) for _ in range(length)])


async def _until(subject: Subject, *, working: bool) -> None:
    with anyio.fail_after(20):
        while bool(await subject.running()) is not working:  # noqa: ASYNC110 (a server tells nobody)
            await anyio.sleep(0.02)


async def _sampled(engine: Engine, context: Segment, tokens: int, session: str) -> Segment:
    """Extend `context` by what the engine samples for it."""
    generation = await engine.generate(context, Sampling(max_new_tokens=tokens), session=session)
    return Segment(next(_numbers), context, Origin.SAMPLED, generation.tokens, generation.logprobs)


async def test_a_finished_context_is_cached_but_for_its_last_token(subject: Subject) -> None:
    """A continuation of prompt and sampled tokens computes the last sampled one and what is new."""
    head = await _sampled(subject.engine, _given(200), 16, "a")
    more = await subject.engine.generate(_given(10, head), Sampling(max_new_tokens=1), session="a")
    assert more.prompt_tokens == head.length + 10
    assert more.cached_tokens == head.length - 1


async def test_forks_share_their_parent(subject: Subject) -> None:
    """Copies that run at once each find the parent's whole context but the last token it sampled.

    One that starts a little later finds that token as well, and nothing of its sibling's own.
    """
    head = await _sampled(subject.engine, _given(300), 8, "parent")
    copies = [_given(5, head) for _ in range(4)]
    found: list[int] = []

    async def run(index: int, copy: Segment) -> None:
        reply = await subject.engine.generate(copy, Sampling(max_new_tokens=4), session=f"copy {index}")
        found.append(reply.cached_tokens)

    async with anyio.create_task_group() as group:
        for index, copy in enumerate(copies):
            group.start_soon(run, index, copy)
    assert set(found) <= {head.length - 1, head.length}
    assert min(found) == head.length - 1  # the one that was computed first, whichever was answered first


async def test_a_warmed_prefix_is_cached(subject: Subject) -> None:
    """Warming samples nothing and finds nothing the first time; then all but a prompt's last token is there."""
    trunk = _given(400)
    assert await subject.engine.warm(trunk, session="w") < 5  # a token or two in common with others by chance
    assert await subject.engine.warm(trunk, session="w") == trunk.length - 1
    reply = await subject.engine.generate(_given(3, trunk), Sampling(max_new_tokens=1), session="w")
    assert reply.cached_tokens == trunk.length


async def test_every_token_has_its_logprob(subject: Subject) -> None:
    """One log-probability a token, none above zero; no more tokens than asked for."""
    reply = await subject.engine.generate(_given(20), Sampling(max_new_tokens=12), session="l")
    assert 1 <= len(reply.tokens) <= 12
    assert len(reply.logprobs) == len(reply.tokens)
    assert all(logprob <= 0 for logprob in reply.logprobs)


async def test_greedy_is_deterministic(subject: Subject) -> None:
    """The same context gives the same tokens, cold or cached."""
    context = _given(50)
    sampling = Sampling(max_new_tokens=20)
    first, second = [await subject.engine.generate(context, sampling, session="g") for _ in range(2)]
    assert first.tokens == second.tokens
    assert first.cached_tokens < 5
    assert second.cached_tokens == context.length - 1


async def test_a_stop_token_ends_the_turn_and_is_part_of_it(subject: Subject) -> None:
    """Sampling ends with the first stop token, which is returned; ids nobody ever samples change nothing."""
    context = _given(50)
    whole = await subject.engine.generate(context, Sampling(max_new_tokens=12), session="s")
    stop = whole.tokens[-1]
    upto = whole.tokens[: whole.tokens.index(stop) + 1]
    stops = Sampling(max_new_tokens=12, stop_token_ids=(stop, 10**6))
    stopped = await subject.engine.generate(context, stops, session="s")
    assert (stopped.tokens, stopped.finish) == (upto, FinishReason.STOP)
    ignored = await subject.engine.generate(context, Sampling(max_new_tokens=12, stop_token_ids=(10**6,)), session="s")
    assert (ignored.tokens, ignored.finish) == (whole.tokens, whole.finish)


async def test_a_cancelled_request_stops_running(subject: Subject) -> None:
    """Cancelling a generation stops it at the engine, and costs no other request anything."""
    context = _given(100)
    endless = Sampling(max_new_tokens=LONG, structural_tag=ENDLESS)
    other: list[int] = []

    async def bystander() -> None:
        reply = await subject.engine.generate(_given(100), Sampling(max_new_tokens=50), session="b")
        other.append(len(reply.tokens))

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: subject.engine.generate(context, endless, session="c"))
        await _until(subject, working=True)
        async with anyio.create_task_group() as inner:
            inner.start_soon(bystander)
        group.cancel_scope.cancel()
    assert other
    await _until(subject, working=False)


async def test_an_interrupted_generation_keeps_its_tokens(subject: Subject) -> None:
    """It returns what it had sampled, as it would have sampled it alone; going on from there computes one token.

    The generations of others and later ones of the same session go on.
    """
    context, other = _given(100), _given(100)
    endless = Sampling(max_new_tokens=LONG, structural_tag=ENDLESS)
    partial, bystander = [await _interrupted(subject, context, endless, at_s=0.0)], []
    for at_s in (0.2, 0.5, 2.0, 8.0):
        if partial[-1].tokens:
            break
        partial.append(await _interrupted(subject, context, endless, at_s=at_s))

    async def stay() -> None:
        bystander.append(await subject.engine.generate(other, Sampling(max_new_tokens=40), session="other"))

    cut = partial[-1]
    assert 0 < len(cut.tokens) < LONG
    assert len(cut.logprobs) == len(cut.tokens)
    assert (cut.finish, cut.prompt_tokens) == (FinishReason.ABORT, context.length)
    async with anyio.create_task_group() as group:
        group.start_soon(stay)
        again = await _interrupted(subject, context, endless, at_s=0.2)
    assert [reply.finish for reply in bystander] == [FinishReason.LENGTH]
    assert again.finish is FinishReason.ABORT
    shared = min(len(cut.tokens), len(again.tokens))
    assert cut.tokens[:shared] == again.tokens[:shared]
    head = Segment(next(_numbers), context, Origin.SAMPLED, cut.tokens, cut.logprobs)
    more = await subject.engine.generate(head, Sampling(max_new_tokens=4), session="i")
    assert more.cached_tokens >= head.length - 1
    assert more.finish is FinishReason.LENGTH


async def _interrupted(subject: Subject, context: Segment, sampling: Sampling, *, at_s: float) -> Generation:
    """A generation that was interrupted so long after the engine took it up."""
    replies: list[Generation] = []

    async def run() -> None:
        replies.append(await subject.engine.generate(context, sampling, session="i"))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await _until(subject, working=True)
            await anyio.sleep(at_s)  # a server tells nobody how far a generation is
            await subject.engine.interrupt("i")
    return replies[0]


async def test_what_does_not_generate_is_not_interrupted(subject: Subject) -> None:
    """Warming goes on to its end; for a session that is done, or was never seen, there is nothing to do."""
    trunk = _given(1000)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: subject.engine.warm(trunk, session="warming"))
        await anyio.wait_all_tasks_blocked()
        await subject.engine.interrupt("warming")
    assert await subject.engine.warm(trunk, session="warming") == trunk.length - 1
    await subject.engine.interrupt("warming")
    await subject.engine.interrupt("nobody")


async def test_every_context_has_a_worker(subject: Subject) -> None:
    """A number below `Capacity.workers`, the same for a whole family."""
    head = _given(10)
    worker = subject.engine.worker(head)
    assert worker in range((await subject.engine.capacity()).workers)
    assert subject.engine.worker(_given(1, head)) == worker


async def test_a_session_keeps_its_kv_until_it_is_released(subject: Subject) -> None:
    """Other work that fills the pool evicts what a released session owned, but not what a live one owns."""
    live, released = _given(500), _given(500)
    await subject.engine.warm(live, session="live")
    await subject.engine.warm(released, session="released")
    await subject.engine.release("released")
    await subject.engine.release("never seen")
    for n in range(8):  # 8 x 3000 tokens through a pool of 16384
        await subject.engine.warm(_given(3000), session=f"pressure {n}")
        await subject.engine.release(f"pressure {n}")
    assert await subject.engine.warm(live, session="live") == live.length - 1
    assert await subject.engine.warm(released, session="released") < 5  # a token or two in common by chance
    await subject.engine.release("live")


async def test_what_does_not_fit_is_refused(subject: Subject) -> None:
    """A prompt longer than the context is refused, with HTTP's status, at once."""
    capacity = await subject.engine.capacity()
    with pytest.raises(EngineRefused) as refused:
        await subject.engine.generate(_given(capacity.context_tokens + 10), Sampling(max_new_tokens=1), session="x")
    assert refused.value.status == 400


async def test_it_knows_what_it_can_hold(subject: Subject) -> None:
    """Capacity and health, and that there is no trouble."""
    capacity = await subject.engine.capacity()
    assert capacity.pool_tokens == 16_384
    assert capacity.context_tokens > 0
    assert capacity.page_tokens == 1
    assert capacity.running_requests > 0
    assert capacity.model
    assert await subject.engine.healthy()
    assert subject.engine.trouble() == ""
