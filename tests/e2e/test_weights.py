"""A real server whose weights change under generations that are under way."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from agents.context import Origin, Segment
from runtime.engine.base import Sampling
from runtime.rollouts.updating import HeldEngine, Pausable
from tests.e2e.conftest import Real

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

LENGTH, AT_ONCE, AGENTS = 400, 50, 4


async def test_weights_change_while_agents_generate(real: Real) -> None:
    """What was being sampled keeps its tokens and goes on with the new weights; the server's cache is a new one."""
    assert isinstance(real.engine, Pausable)
    held = HeldEngine(real.engine)
    before, after = (await real.engine.capacity()).weight_version, "tested"
    spans: list[list[tuple[str, int]]] = [[] for _ in range(AGENTS)]
    found: list[int] = []  # of the first prompts that the new weights were asked to go on from: tokens in the cache

    async def generate(number: int) -> None:
        head = Segment(1, None, Origin.GIVEN, range(100 + number, 300 + number))
        sampling = Sampling(max_new_tokens=AT_ONCE, temperature=1.0)
        while head.length < 200 + LENGTH:
            reply = await held.generate(head, sampling, session=f"weights-{number}")
            if reply.weight_version == after and spans[number][-1][0] == before:
                found.append(reply.cached_tokens)
            head = Segment(head.id + 1, head, Origin.SAMPLED, reply.tokens)
            spans[number].append((reply.weight_version, len(reply.tokens)))
        await held.release(f"weights-{number}")

    try:
        async with anyio.create_task_group() as group:
            for number in range(AGENTS):
                group.start_soon(generate, number)
            with anyio.fail_after(60):
                while not (all(spans) and await real.requests()):  # noqa: ASYNC110 (a server tells nobody)
                    await anyio.sleep(0.01)
            async with held.held():
                assert await real.requests() == 0
                await real.engine.load(Path(real.server.model), after)
    finally:
        await real.engine.load(Path(real.server.model), before)
    for span in spans:
        versions = [version for version, _ in span]
        assert versions == sorted(versions, key=[before, after].index)
    assert any(after in dict(span) and before in dict(span) for span in spans)
    assert 0 in found
