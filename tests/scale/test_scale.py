"""The benchmarks of scale and of a week, in small: the same code with smaller numbers, held to the same promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def benchmark(name: str, *arguments: object) -> dict[str, object]:
    """What it printed, in a process of its own: memory is measured."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(240)
def test_live_agents() -> None:
    """All alive at once, wide and deep, at a memory each that lets ten thousand live in a gigabyte."""
    found = benchmark("scale", "--case", "live", 600, 300, 50)
    assert (found["alive"], found["deep"], found["wide"]) == (600, 50, 300)
    assert isinstance(found["KiB_an_agent"], float)
    assert found["KiB_an_agent"] < 90  # of 1 GiB; the interpreter and the libraries have the rest


@pytest.mark.timeout(240)
def test_a_long_journal_resumes() -> None:
    """At a speed and a memory that let a million records resume in a minute and two gigabytes."""
    found = benchmark("scale", "--case", "resume", 40_000)
    assert found["turns"] == 9_974
    assert isinstance(found["MiB"], float)
    assert found["MiB"] < 200


@pytest.mark.timeout(240)
def test_a_turn_costs_the_same_early_and_late() -> None:
    """A history is appended to and never written again, and a late turn costs about what an early one does."""
    found = benchmark("scale", "--case", "flat", 400)
    early, late = found["ms_a_turn_early"], found["ms_a_turn_late"]
    assert isinstance(early, float)
    assert isinstance(late, float)
    # Joining the context's bytes grows with it; nothing that is as long as the context is built otherwise.
    assert late < 3 * early


@pytest.mark.timeout(240)
def test_two_days_in_seconds() -> None:
    """Agents with faults all around them, on a virtual clock: every outcome is accounted for, and memory stays."""
    found = benchmark("soak", "--days", 2, "--agents", 10)
    assert isinstance(found["outcomes"], dict)
    assert sum(found["outcomes"].values()) == found["agents"]
    assert isinstance(found["faults"], dict)
    assert found["faults"]["outage"] > 3
    assert isinstance(found["MiB_a_day_unexplained"], float)
    assert found["MiB_a_day_unexplained"] < 1
