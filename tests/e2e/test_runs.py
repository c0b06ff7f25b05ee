"""Whole runs on a real server: what forks, rewinds and ends do to its cache, by what it reports itself."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TypeVar

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

from agents.context import Origin, Segment
from agents.host import Outcome
from runtime.budget import Budget
from runtime.demo import Story, check, corrector, make_story, settings_of, write_survey
from runtime.engine.base import FinishReason
from runtime.recorder import load, records
from runtime.records import Forked, Record, Rewound, Sampled
from runtime.swarm import Swarm
from tests.e2e.conftest import Real
from tests.support import call, ledgers, survey
from workspace import RunLayout

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

ROOT = Path(__file__).parents[2]
SEED = 2  # of which the review's file is corrected
R = TypeVar("R", bound=Record)


def _of(layout: RunLayout, kind: type[R]) -> list[R]:
    return [record for record in records(layout) if isinstance(record, kind)]


async def _survey(real: Real, directory: Path, figures: list[int]) -> Swarm:
    """A run that is over: a lead that forked into one copy a file."""
    ledgers(directory, figures)
    async with Swarm(real.forced(survey), directory) as swarm:
        result = await (await swarm.start("What do the ledgers add up to?")).result()
    assert (result.outcome, result.text) == (Outcome.FINISHED, str(sum(figures)))
    return swarm


async def test_copies_find_all_of_their_parent(real: Real, tmp_path: Path) -> None:
    """But the last token it sampled, which has no KV; nothing else of the run is computed twice either."""
    swarm = await _survey(real, tmp_path, [3, 14, 159, 2653])
    state = swarm.state
    (forked,) = _of(swarm.layout, Forked)
    trunk = state.segments[forked.segment]
    sampled = _of(swarm.layout, Sampled)
    for copy in forked.copies:
        first = next(record for record in sampled if record.agent == copy.agent)
        assert first.cached_tokens >= trunk.length - 1
        assert first.prompt_tokens - first.cached_tokens <= len(copy.tokens) + 1
    statistics = swarm.statistics()
    assert statistics.short_tokens == 0
    assert statistics.recompute_ratio <= 1.01


async def test_a_run_leaves_nothing_at_the_server(real: Real, tmp_path: Path) -> None:
    """No request, and no session that holds KV: what comes later takes the run's room before that of older sessions."""
    numbers = itertools.count(1000)

    def given(length: int) -> Segment:
        number = next(numbers)
        random = Random(number)
        return Segment(number, None, Origin.GIVEN, [random.randrange(32, 127) for _ in range(length)])

    older = given(500)
    await real.engine.warm(older, session="older")
    swarm = await _survey(real, tmp_path, [1, 2, 3])
    assert await real.requests() == 0
    heads = [agent.head for agent in swarm.state.agents.values()]
    pool = (await real.engine.capacity()).pool_tokens
    for n in range(pool // 3000 + 2):
        await real.engine.warm(given(3000), session=f"pressure {n}")
        await real.engine.release(f"pressure {n}")
    assert await real.engine.warm(older, session="older") == older.length - 1
    for head in heads:
        assert await real.engine.warm(head, session="look") < 5
        await real.engine.release("look")
        await real.flush()  # so that the next one does not find what this one has just computed
    await real.engine.release("older")


async def test_forking_an_agent_that_generates(real: Real, tmp_path: Path) -> None:
    """What it had sampled stays: the copies begin there, at no cost, and it goes on to the end of its sentence."""
    said = f"I count: {' '.join(map(str, range(300)))}."

    def decide(text: str) -> str:
        task = re.findall(r"Your task: (.*)", text)
        if task:
            return call("finish", result=task[-1])
        return call("finish", result="counted") if said in text else said

    async with Swarm(real.forced(decide), tmp_path, budget=Budget(turns=40)) as swarm:
        lead = await swarm.start("count")
        for _ in range(40):
            await anyio.sleep(0.3)  # a server tells nobody how far a generation is
            copies = await lead.fork(["one", "two"])
            cut = copies[0].state.base.parent
            assert cut is not None
            if cut.origin is Origin.SAMPLED:
                break
            for copy in copies:
                await copy.cancel()
        assert [(await copy.result()).text for copy in copies] == ["one", "two"]
        assert (await lead.result()).text == "counted"
    sampled = _of(swarm.layout, Sampled)
    (aborted,) = [record for record in sampled if record.finish is FinishReason.ABORT]
    assert 0 < len(aborted.tokens) < len(said)
    assert cut.length == aborted.prompt_tokens + len(aborted.tokens)
    for copy in copies:
        first = next(record for record in sampled if record.agent == copy.id)
        assert first.cached_tokens >= cut.length - 1
    rest = next(record for record in sampled if record.agent == lead.id and record.finish is FinishReason.STOP)
    assert rest.cached_tokens >= cut.length - 1
    _, tokens = swarm.state.segments[rest.segment].whole_turn()
    assert real.chat.text(tokens) == said + "<|im_end|>"


async def test_rewinding_and_forking_post_hoc(real: Real, tmp_path: Path) -> None:
    """Copies of an earlier checkpoint, and an agent that goes back to one, find all that led to it."""
    ledgers(tmp_path, [20, 3])

    def decide(text: str) -> str:
        if "You are copy" in text:
            return call("finish", result="seen")
        if "all that I need" in text:
            return call("finish", result="back")
        if re.search(r"^a2: seen", text, re.MULTILINE):
            return call("rewind", to="t2", report="all that I need")
        read = text.count("total: ")
        if read == 2:
            return call("fork", tasks=["one", "two"], at="t1")
        return (
            call("read_file", path=f"ledgers/l{read}.txt")
            if "ledgers/l0.txt" in text
            else call("list_files", path="ledgers")
        )

    async with Swarm(real.forced(decide), tmp_path, budget=Budget(turns=40)) as swarm:
        lead = await swarm.start("look around")
        assert (await lead.result()).text == "back"
    state, sampled = swarm.state, _of(swarm.layout, Sampled)
    (forked,) = _of(swarm.layout, Forked)
    checkpoint = state.segments[forked.segment]
    assert (checkpoint.turn, checkpoint.origin) == (1, Origin.GIVEN)
    for copy in forked.copies:
        first = next(record for record in sampled if record.agent == copy.agent)
        assert first.cached_tokens >= checkpoint.length - 1
    (rewound,) = _of(swarm.layout, Rewound)
    past = state.segments[rewound.to]
    next_turn = next(record for record in sampled if record.segment > rewound.segment)
    assert next_turn.agent == lead.id
    assert next_turn.cached_tokens >= past.length - 1
    assert swarm.statistics().short_tokens == 0


async def test_a_killed_run_goes_on(real: Real, tmp_path: Path) -> None:
    """Killed while its copies are at work, a run is resumed by another process, to the right answer."""
    figures = [7, 80, 900]
    ledgers(tmp_path, figures)
    environ = {"E2E_URL": real.server.url, "E2E_KEY": real.server.api_key}
    process = await anyio.open_process(
        [sys.executable, "-m", "tests.e2e.killed", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=None,
    )
    assert process.stdout is not None
    with anyio.fail_after(120):
        async for line in TextReceiveStream(process.stdout):
            if "copy has sampled" in line:
                break
        process.kill()
        await process.wait()
    await process.aclose()
    layout = RunLayout.find(tmp_path)
    before = load(layout)
    assert before.outcome is None
    async with Swarm(real.forced(survey), tmp_path, resume=layout) as swarm:
        result = await swarm.handles()[0].result()
    assert (result.outcome, result.text) == (Outcome.FINISHED, str(sum(figures)))
    after = load(layout)
    assert after.forks == 1
    for number, segment in before.segments.items():
        assert after.segments[number].tokens == segment.tokens


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("story", Story)
async def test_the_seedling_tells_its_stories(real: Real, story: Story, tmp_path: Path) -> None:
    """Of words and figures that it never saw, deciding every step itself: copies, newcomers, a rewind, a review."""
    made = make_story(Random(SEED), story, 4, split="heldout")
    write_survey(made, tmp_path)
    corrects = corrector(made, tmp_path)
    async with Swarm(real.engine, tmp_path, settings=settings_of(story), observers=[corrects]) as swarm:
        lead = await swarm.start(made.question)
        result = await lead.result()
    assert result.outcome is Outcome.FINISHED
    assert check(made, result.text), (made.question, made.figures, result.text)
    reviews = [agent.accepted for agent in swarm.state.agents.values() if agent.reviews]
    shown = {
        Story.SURVEY: swarm.state.forks == 1,
        Story.ONBOARDING: swarm.state.spawns == 1,
        Story.DETOUR: swarm.state.rewinds == 1,
        Story.REVIEW: reviews == [False, True],
    }
    assert shown[story], (swarm.statistics(), reviews)
