"""The stream of events."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from runtime.errors import OutputLost
from runtime.swarm import Swarm
from runtime.view import Events
from tests.support import ledgers, scripted, survey

pytestmark = pytest.mark.anyio


async def test_a_run_as_events(tmp_path: Path) -> None:
    """Every agent starts and ends, every turn and call is told, the last event has the result and the bill."""
    ledgers(tmp_path, [1, 2])
    out = io.StringIO()
    events = Events(out)
    async with Swarm(scripted(survey), tmp_path, observers=[events.observe]) as swarm:
        events.begin(swarm.state, swarm.layout.root, resumed=False)
        result = await (await swarm.start("add up")).result()
    events.end(result.outcome, result.text, swarm.layout.root, swarm.statistics())
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert told[0]["event"] == "run_started"
    kinds = [one["event"] for one in told]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "run_started": 1,
        "agent_started": 3,
        "turn": 8,
        "call_started": 8,
        "call_ended": 5,  # finish has no end but its agent's
        "agent_ended": 3,
        "run_ended": 1,
    }
    assert told[-1]["result"] == "3"
    assert told[-1]["dir"] == str(swarm.layout.root)
    assert told[-1]["stats"]["agents"] == 3
    assert [one["turn"] for one in told if one["event"] == "turn" and one["agent"] == "a1"] == [1, 2, 3, 4]


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_output_that_cannot_be_written() -> None:
    """A full disk under standard output is a failure with a name."""
    with pytest.raises(OutputLost, match="No space left"):
        Events(Full()).progress("starting: 1 s")


def test_engine_progress_is_told_once_a_phase() -> None:
    """Seconds that go by are no events."""
    out = io.StringIO()
    events = Events(out)
    for line in ("starting the engine: 0 s", "starting the engine: 1 s", "ready"):
        events.progress(line)
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == ["starting the engine", "ready"]
