"""The SGLang client against servers that misbehave."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import anyio
import pytest

from agents.context import Origin, Segment
from runtime.engine.base import EngineError, EngineRefused, EngineUnavailable, FinishReason, Generation, Sampling
from runtime.engine.sglang import ATTEMPTS, SGLang
from tests.runtime.engine.stub import OK, Asked, Broken, Stub, serve

pytestmark = pytest.mark.anyio

TRUNK = Segment(1, None, Origin.GIVEN, [1, 2])
CONTEXT = Segment(2, TRUNK, Origin.GIVEN, [3])
SAMPLING = Sampling(max_new_tokens=4, stop_token_ids=(6,))


def _rids(requests: list[Asked]) -> list[str]:
    return [str(request.json()["rid"]) for request in requests]


async def test_what_is_sent_and_what_comes_back() -> None:
    """The context's own bytes, the session, output log-probabilities only; tokens and counts come back."""

    async def answer(_request: Asked) -> tuple[int, object]:
        return 200, OK

    async with serve(answer) as stub, SGLang.connect(stub.url, api_key="secret") as engine:
        generation = await engine.generate(
            CONTEXT,
            Sampling(max_new_tokens=4, stop_token_ids=(6,), temperature=0.5, seed=3, structural_tag="{}"),
            session='a "1"',
        )
    assert (generation.tokens, generation.logprobs) == ((5, 6), (-0.5, -0.25))
    assert (generation.finish, generation.prompt_tokens, generation.cached_tokens) == (FinishReason.STOP, 3, 2)
    assert generation.weight_version == "v1"
    (request,) = stub.asked
    assert request.headers["authorization"] == "Bearer secret"
    assert request.body.startswith(b'{"input_ids":[1,2,3],"rid":"')
    body = request.json()
    assert re.fullmatch("[0-9a-f]{32}", str(body.pop("rid")))
    assert body == {
        "input_ids": [1, 2, 3],
        "session_id": 'a "1"',
        "return_logprob": True,
        "logprob_start_len": -1,
        "stream": False,
        "sampling_params": {
            "max_new_tokens": 4,
            "temperature": 0.5,
            "top_p": 1.0,
            "top_k": -1,
            "skip_special_tokens": False,
            "no_stop_trim": True,
            "stop_token_ids": [6],
            "sampling_seed": 3,
            "structural_tag": "{}",
        },
    }


@pytest.mark.parametrize("failure", ["full", "closed", "half", "broken", "garbage"])
async def test_what_may_be_repeated_is_repeated(failure: str) -> None:
    """A full queue, a closed connection, half a reply, an internal error: sent again under a new id.

    The old id is aborted, unless the server said that it had not started.
    """
    failures: Iterator[str] = iter([failure, failure])

    async def answer(request: Asked) -> tuple[int, object]:
        if request.path != "/generate":
            return 200, None
        match next(failures, None):
            case "full":
                return 503, {"error": {"message": "The request queue is full."}}
            case "closed":
                raise Broken
            case "half":
                raise Broken(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
            case "garbage":
                raise Broken(b"SSH-2.0-OpenSSH\r\n\r\n")
            case "broken":
                return 500, {"error": "boom"}
        return 200, OK

    async with serve(answer) as stub, SGLang.connect(stub.url) as engine:
        assert (await engine.generate(CONTEXT, SAMPLING, session="s")).tokens == (5, 6)
    sent = _rids(stub.on("/generate"))
    assert len(set(sent)) == 3
    assert _rids(stub.on("/abort_request")) == ([] if failure == "full" else sent[:2])


async def test_what_goes_on_failing_is_given_up() -> None:
    """After the last attempt the caller gets the reason."""

    async def answer(_request: Asked) -> tuple[int, object]:
        return 500, {"error": "boom"}

    async with serve(answer) as stub, SGLang.connect(stub.url) as engine:
        with pytest.raises(EngineUnavailable, match=r"500: .*boom"):
            await engine.generate(CONTEXT, SAMPLING, session="s")
        assert not await engine.healthy()
    assert len(stub.on("/generate")) == ATTEMPTS


async def test_what_is_refused_is_not_repeated() -> None:
    """A 4xx is the request's own fault: one attempt, with the status and the server's words."""

    async def answer(_request: Asked) -> tuple[int, object]:
        return 400, {"error": {"message": "longer than the context"}}

    async with serve(answer) as stub, SGLang.connect(stub.url) as engine:
        with pytest.raises(EngineRefused, match="longer than the context") as refused:
            await engine.generate(CONTEXT, SAMPLING, session="s")
    assert refused.value.status == 400
    assert len(stub.asked) == 1


async def test_a_reply_that_does_not_come_is_not_waited_for_twice() -> None:
    """The time limit ends the attempt, aborts the request, and there is no second one."""

    async def answer(request: Asked) -> tuple[int, object]:
        if request.path == "/generate":
            await anyio.sleep_forever()
        return 200, None

    async with serve(answer) as stub, SGLang.connect(stub.url, reply_s=0.2) as engine:
        with pytest.raises(EngineUnavailable, match="did not answer"):
            await engine.generate(CONTEXT, SAMPLING, session="s")
    assert _rids(stub.on("/abort_request")) == _rids(stub.on("/generate"))
    assert len(stub.on("/generate")) == 1


@pytest.mark.parametrize("abort_hangs", [False, True])
async def test_a_cancelled_request_is_aborted(abort_hangs: bool) -> None:
    """Cancellation sends one abort for the same id and then goes on, even if the abort is never answered."""
    arrived = anyio.Event()

    async def answer(request: Asked) -> tuple[int, object]:
        if request.path == "/generate":
            arrived.set()
        if request.path == "/generate" or abort_hangs:
            await anyio.sleep_forever()
        return 200, None

    async with serve(answer) as stub, SGLang.connect(stub.url) as engine:
        with anyio.fail_after(4):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: engine.generate(CONTEXT, SAMPLING, session="s"))
                await arrived.wait()
                group.cancel_scope.cancel()
    assert _rids(stub.on("/abort_request")) == _rids(stub.on("/generate"))


@pytest.mark.parametrize(
    ("status", "reply"),
    [
        (200, {"output_ids": [], "meta_info": {"finish_reason": {"type": "abort", "message": "in the queue"}}}),
        (400, {"error": {"message": "Aborted"}}),
        (500, {"error": "gone"}),
    ],
)
async def test_an_interrupted_request_that_had_not_begun(status: int, reply: object) -> None:
    """However the server says so, nothing was sampled; and an abort that overtook its request is repeated."""
    ended = anyio.Event()

    async def answer(request: Asked) -> tuple[int, object]:
        if request.path == "/generate":
            await ended.wait()
            return status, reply
        if len(stub.on("/abort_request")) == 3:
            ended.set()
        return 200, None

    async with serve(answer) as stub, SGLang.connect(stub.url) as engine:
        replies = await _interrupted(engine, stub)
    assert (replies.tokens, replies.finish, replies.prompt_tokens) == ((), FinishReason.ABORT, 0)
    assert len(stub.on("/generate")) == 1
    assert set(_rids(stub.on("/abort_request"))) == set(_rids(stub.on("/generate")))


async def _interrupted(engine: SGLang, stub: Stub) -> Generation:
    replies: list[Generation] = []

    async def run() -> None:
        replies.append(await engine.generate(CONTEXT, SAMPLING, session="s"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await stub.wait_busy(1)
            await engine.interrupt("s")
    return replies[0]


async def test_an_interrupted_request_that_was_not_sent() -> None:
    """One that waits for a connection returns at once, and the server never hears of it."""
    arrived, release = anyio.Event(), anyio.Event()

    async def answer(request: Asked) -> tuple[int, object]:
        if request.path == "/generate":
            arrived.set()
            await release.wait()
        return 200, OK

    async with serve(answer) as stub, SGLang.connect(stub.url, connections=1) as engine:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: engine.generate(CONTEXT, SAMPLING, session="other"))
            await arrived.wait()
            replies: list[Generation] = []

            async def run() -> None:
                replies.append(await engine.generate(CONTEXT, SAMPLING, session="s"))

            async with anyio.create_task_group() as waiting:
                waiting.start_soon(run)
                await anyio.wait_all_tasks_blocked()
                await engine.interrupt("s")
            release.set()
        assert engine._http.requests.statistics().borrowed_tokens == 0
    assert (replies[0].tokens, replies[0].finish) == ((), FinishReason.ABORT)
    assert [request.path for request in stub.asked] == ["/generate"]


async def test_requests_queue_in_front_of_the_pool() -> None:
    """Never more connections than permits; cancelling those that queue costs nothing and leaves nothing behind."""
    release = anyio.Event()

    async def answer(request: Asked) -> tuple[int, object]:
        if request.path == "/generate":
            await release.wait()
        return 200, OK

    async with serve(answer) as stub, SGLang.connect(stub.url, connections=3) as engine:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as kept:
                for _ in range(3):
                    kept.start_soon(lambda: engine.generate(CONTEXT, SAMPLING, session="kept"))
                await stub.wait_busy(3)
                async with anyio.create_task_group() as queued:
                    for _ in range(20):
                        queued.start_soon(lambda: engine.generate(CONTEXT, SAMPLING, session="queued"))
                    await anyio.wait_all_tasks_blocked()
                    assert await engine.healthy()  # control requests are not in that queue
                    queued.cancel_scope.cancel()
                release.set()
            async with anyio.create_task_group() as again:
                for _ in range(6):
                    again.start_soon(lambda: engine.generate(CONTEXT, SAMPLING, session="again"))
        assert engine._http.requests.statistics().borrowed_tokens == 0
    assert stub.most <= 4
    assert len(stub.on("/generate")) == 3 + 6
    assert stub.on("/abort_request") == []


async def test_nobody_there() -> None:
    """No server: unavailable, unhealthy, and nothing to release."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with SGLang.connect(url, attempts=2) as engine:
            with pytest.raises(EngineUnavailable, match="cannot reach"):
                await engine.generate(CONTEXT, SAMPLING, session="s")
            with pytest.raises(EngineUnavailable, match="cannot reach"):
                await engine.capacity()
            assert not await engine.healthy()
            await engine.release("s")


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "no meta_info"},
        OK | {"output_ids": [5]},
        OK | {"meta_info": OK["meta_info"] | {"finish_reason": {"type": "bored"}}},  # type: ignore[operator]
    ],
)
async def test_a_reply_that_makes_no_sense(reply: object) -> None:
    """Not the reply's tokens with a guess at the rest, but an error, once."""

    async def answer(_request: Asked) -> tuple[int, object]:
        return 200, reply

    async with serve(answer) as stub, SGLang.connect(stub.url) as engine:
        with pytest.raises(EngineError):
            await engine.generate(CONTEXT, SAMPLING, session="s")
    assert len(stub.asked) == 1


async def test_capacity_is_asked_once() -> None:
    """And summed over data-parallel ranks where the server says how many run at once."""
    info = {
        "tokenizer_path": "Qwen/Qwen3-8B",
        "max_total_num_tokens": 1000,
        "max_req_input_len": 900,
        "page_size": 16,
        "weight_version": "v2",
        "internal_states": [{"effective_max_running_requests_per_dp": 8}] * 2,
        "something": "else",
    }

    async def answer(_request: Asked) -> tuple[int, object]:
        return 200, info

    async with serve(answer) as stub, SGLang.connect(stub.url) as engine:
        first, second = await engine.capacity(), await engine.capacity()
    assert first is second
    assert (first.model, first.pool_tokens, first.context_tokens) == ("Qwen/Qwen3-8B", 1000, 900)
    assert (first.page_tokens, first.running_requests, first.weight_version) == (16, 16, "v2")
    assert len(stub.asked) == 1


@pytest.mark.parametrize("url", ["localhost:30000", "ftp://host/", ""])
async def test_not_an_address(url: str) -> None:
    """Said at once, before anything is sent."""
    with pytest.raises(EngineRefused, match="not an http"):
        async with SGLang.connect(url):
            pass
