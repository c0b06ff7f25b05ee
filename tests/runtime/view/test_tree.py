"""The tree of agents as rows and lines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from agents.host import Outcome
from runtime.engine.base import FinishReason
from runtime.records import (
    CallStarted,
    Copy,
    Ended,
    Forked,
    Opened,
    Outage,
    Record,
    Resumed,
    Sampled,
    Settings,
    Started,
)
from runtime.state import RunState
from runtime.view import Times, lines, nested, rows, totals

# A loaded machine makes no example wrong.
settings.register_profile("view", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
VIEW = settings.get_profile("view")
GOLDEN = Path(__file__).with_name("golden")


def seen(records: Sequence[Record]) -> tuple[RunState, Times]:
    """What is known after `records`."""
    return RunState.replay(records), Times.replay(records)


def turn(agent: str, segment: int, sampled: int, prompt: int, cached: int, at: float) -> Sampled:
    """A turn of so many tokens."""
    return Sampled(
        agent=agent,
        segment=segment,
        tokens=(0,) * sampled,
        logprobs=(0.0,) * sampled,
        finish=FinishReason.STOP,
        prompt_tokens=prompt,
        cached_tokens=cached,
        at=at,
    )


def ledger_run() -> list[Record]:
    """A lead that forked three copies: one has answered, one has failed, one is reading."""
    return [
        Opened(version=1, run="20261122-081501-k3f9", settings=Settings(model="seedling"), at=100.0),
        Started(agent="a1", segment=1, tokens=(0,) * 40, task="What do the ledgers add up to?", at=100.0),
        turn("a1", 2, 30, 40, 0, 101.0),
        Forked(
            agent="a1",
            segment=2,
            called_by=2,
            copies=tuple(
                Copy(agent=f"a{n}", segment=n + 1, tokens=(0,) * 12, task=f"ledgers/{name}.txt")
                for n, name in ((2, "north"), (3, "south"), (4, "a\x1b[2Jwicked\nname"))
            ),
            at=101.5,
        ),
        turn("a2", 6, 20, 82, 69, 103.0),
        turn("a3", 7, 10, 82, 69, 103.0),
        Ended(agent="a2", outcome=Outcome.FINISHED, result="120", at=104.0),
        Ended(agent="a3", outcome=Outcome.FAILED, result="the engine failed: gone\nfor good", at=105.0),
        turn("a4", 8, 10, 82, 69, 106.0),
        CallStarted(agent="a4", index=0, name="read_file", at=107.0),
    ]


def test_a_tree_as_text() -> None:
    """The lines of a run are those of the golden file (RAMET_GOLDEN=write makes it anew)."""
    state, times = seen(ledger_run())
    drawn = lines(rows(state, times, 110.0), 100, results=True)
    text = "\n".join([(line.left + line.right).rstrip() for line in drawn] + [totals(state, 110.0), ""])
    golden = GOLDEN / "tree.txt"
    if os.environ.get("RAMET_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_what_models_write_drives_no_terminal() -> None:
    """Escape sequences and line breaks in tasks and results are shown, one line each, and never obeyed."""
    state, times = seen(ledger_run())
    for line in lines(rows(state, times, 110.0), 80, results=True):
        assert (line.left + line.right).isprintable()


def test_siblings_that_ended_fold_into_a_count() -> None:
    """Where the rows do not fit, those that ended become one row with their number and outcomes."""
    state, times = seen(ledger_run())
    shown = rows(state, times, 110.0, height=3)
    assert [row.agent for row in shown] == ["a1", "", "a4"]
    assert (shown[1].task, shown[1].folded, shown[1].sampled_tokens) == ("1 finished, 1 failed", 2, 30)
    assert [row.branch for row in shown] == ["", "├─ ", "└─ "]


def test_nested_json_has_every_agent() -> None:
    """The tree for programs nests children in their parents, with their tokens and results."""
    (lead,) = nested(*seen(ledger_run()))["agents"]
    assert [child["agent"] for child in lead["children"]] == ["a2", "a3", "a4"]
    assert lead["children"][0]["result"] == "120"
    assert lead["context_tokens"] == 70
    assert lead["children"][2]["activity"] == "read_file"


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    """Runs of up to sixty agents that fork and end in any order."""
    records: list[Record] = [
        Opened(version=1, run="r", settings=Settings()),
        Started(agent="a1", segment=1, tokens=(1,), task="root"),
    ]
    alive, born, segment = ["a1"], 1, 1
    heads = {"a1": 1}
    for _ in range(draw(st.integers(0, 20))):
        if not alive:
            break
        agent = draw(st.sampled_from(alive))
        if draw(st.booleans()):
            number = draw(st.integers(1, 6))
            copies = [
                Copy(agent=f"a{born + n}", segment=segment + n, tokens=(n,), task=draw(st.text(max_size=30)))
                for n in range(1, number + 1)
            ]
            records.append(Forked(agent=agent, segment=heads[agent], copies=tuple(copies)))
            heads |= {copy.agent: copy.segment for copy in copies}
            alive += [copy.agent for copy in copies]
            born, segment = born + number, segment + number
        else:
            alive.remove(agent)
            records.append(Ended(agent=agent, outcome=draw(st.sampled_from(Outcome)), result=draw(st.text())))
    return records


@VIEW
@given(runs(), st.integers(1, 60))
def test_the_living_always_have_a_row(records: list[Record], height: int) -> None:
    """Whatever the height, every agent that lives has a row, and every agent is in a row or counted in just one."""
    state, times = seen(records)
    shown = rows(state, times, 0.0, height)
    named = [row.agent for row in shown if row.agent]
    assert len(set(named)) == len(named)
    assert {agent.id for agent in state.agents.values() if agent.outcome is None} <= set(named)
    assert len(named) + sum(row.folded for row in shown) == len(state.agents)
    assert len(shown) <= len(rows(state, times, 0.0))


@VIEW
@given(runs(), st.integers(20, 150))
def test_no_line_is_wider_than_asked_for(records: list[Record], width: int) -> None:
    """Lines keep to the width in terminal cells, wide characters included, and hold nothing unprintable."""
    state, times = seen(records)
    for line in lines(rows(state, times, 0.0), width, results=True):
        whole = line.left + line.right
        assert cell_len(whole) <= width
        assert "\n" not in whole
        assert "\x1b" not in whole


def test_trouble_with_the_engine_is_seen() -> None:
    """What it is, and since when there is any, stands with the totals until it is over or the run goes on."""
    gone = [*ledger_run(), Outage(reason="it fails", at=106.0), Outage(reason="connection\nrefused", at=108.0)]
    state, times = seen(gone)
    assert "trouble with the engine for 0:04 (connection refused)" in totals(state, 110.0)
    assert nested(state, times)["engine_trouble"] == {"since": 106.0, "reason": "connection\nrefused"}
    for over in (Outage(over=True, at=109.0), Resumed(at=109.0)):
        state, times = seen([*gone, over])
        assert "engine" not in totals(state, 110.0)
        assert nested(state, times)["engine_trouble"] is None
