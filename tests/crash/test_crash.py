"""Runs that are killed, starved of disk, resumed twice, and told the wrong time."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.host import Outcome
from runtime.engine.scripted import text_policy
from runtime.recorder import Recorder, load, records
from runtime.records import Ended, Given, Settings, Started
from tests.crash.child import FINISHED, FULL, LOCKED, Orders
from tests.crash.harness import ROOT, Children, broken, children, killed_run, no_disk_of_their_own
from tests.runtime.cli.server import ScriptedServer, serving
from tests.support import ledgers, survey, tiny_chat, tiny_model
from workspace import RunLayout

# `RAMET_KILLS=500` is the nightly mode.
KILLS = int(os.environ.get("RAMET_KILLS", "30"))
KILLS_A_RUN = 10
DISK = 8 << 20  # bytes: what there is of it where the rest of the job must fit; the job takes a quarter of a million
SEED = int(os.environ.get("RAMET_SEED", "0"))
# In memory where possible, as the journal's own tests: what is durable is counted and not felt.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture(scope="module")
def forked() -> Iterator[Children]:
    """Whoever forks the processes that are killed."""
    with children() as one:
        yield one


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


def test_an_unharmed_run_keeps_every_invariant(place: Path, forked: Children) -> None:
    """The job does what the harness says that it does: else its kills would prove nothing."""
    layout, done = killed_run(place, random.Random(0), 0, forked)
    assert (done.kills, broken(place, layout)) == (0, [])
    state = load(layout)
    assert (state.rewinds, state.spawns, len(state.agents)) == (1, 1, 11)


@pytest.mark.timeout(120 + 4 * KILLS)
def test_kills(forked: Children, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed at any step or moment, its journal cut wherever a power cut may cut it: the run goes on to its answer."""
    chances = random.Random(SEED)
    runs = kills = cuts = lost = 0
    while kills < KILLS:
        seed = chances.getrandbits(32)
        with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
            layout, done = killed_run(Path(directory), random.Random(seed), min(KILLS_A_RUN, KILLS - kills), forked)
            assert broken(Path(directory), layout, done.letters) == [], f"seed {seed}"
            assert done.kills, f"seed {seed}: the run ended before it was killed"
        runs, kills, cuts, lost = runs + 1, kills + done.kills, cuts + done.cuts, lost + done.cut_bytes
    with capsys.disabled():
        if KILLS > 30:
            print(f"\n{kills} kills of {runs} runs, {cuts} cuts ({lost} bytes), nothing lost")


@pytest.mark.parametrize("size", [4_000, 12_000, 25_000])
def test_a_full_disk_stops_the_run_and_loses_nothing(place: Path, forked: Children, size: int) -> None:
    """Where the journal cannot grow the run stops and says so; with room again it goes on to its answer."""
    (place / "work").mkdir()
    assert forked.run(Orders(directory=str(place / "work"), resume=False, largest_file=size)) == FULL
    (layout,) = RunLayout.all(place / "work")
    assert str(layout.journal) in (place / "said.txt").read_text()
    whole = layout.journal.read_bytes()
    assert whole.endswith(b"\n")
    assert len(whole) <= size
    assert forked.run(Orders(directory=str(place / "work"), resume=True)) == FINISHED
    assert layout.journal.read_bytes().startswith(whole)
    assert broken(place, layout) == []


@pytest.mark.parametrize("free", [60_000, 90_000, 140_000, 190_000, 230_000])
def test_a_full_file_system(place: Path, free: int) -> None:
    """On a disk that is really full, whatever finds no room, the run stops and says so; when somebody has made room it
    goes on to its answer, and nothing is lost."""
    work = place / "work"
    work.mkdir()
    if reason := no_disk_of_their_own(work):
        pytest.skip(f"needs a file system of its own, in namespaces: {reason}")
    with children(small=work, size=DISK) as forked:
        (forked.sees(work) / "ballast").write_bytes(bytes(DISK - free))
        assert forked.run(Orders(directory=str(work), resume=False)) == FULL
        assert "No space left on device" in (place / "said.txt").read_text()
        whole = _copied(forked.sees(work), place / "full").journal.read_bytes()
        assert whole.endswith(b"\n")
        (forked.sees(work) / "ballast").unlink()
        assert forked.run(Orders(directory=str(work), resume=True)) == FINISHED
        layout = _copied(forked.sees(work), place / "roomy")
    assert layout.journal.read_bytes().startswith(whole)
    assert broken(place, layout) == []


def _copied(directory: Path, to: Path) -> RunLayout:
    """The run in a directory that only children see, as it is now."""
    shutil.copytree(directory, to, symlinks=True, ignore=shutil.ignore_patterns("ballast"))
    (layout,) = RunLayout.all(to)
    return layout


def test_two_resumes(place: Path, forked: Children) -> None:
    """While one process goes on with a run a second is refused, whatever the first does then; and one is enough."""
    (place / "work").mkdir()
    begun = place / "begun"
    assert forked.run(Orders(directory=str(place / "work"), resume=False, steps=200)) < 0
    forked.begin(Orders(directory=str(place / "work"), resume=True, begun=str(begun)))
    while not begun.exists():
        os.sched_yield()
    with children() as others:
        assert others.run(Orders(directory=str(place / "work"), resume=True)) == LOCKED
    begun.unlink()
    assert forked.end() == FINISHED
    (layout,) = RunLayout.all(place / "work")
    assert broken(place, layout) == []


def test_a_read_only_directory(place: Path) -> None:
    """Where nothing can be written, the command says which directory, exits with 2, and nothing has changed."""
    command = shutil.which("bwrap")
    if command is None:
        pytest.skip("needs bubblewrap, which can show a process a read-only directory whoever it is")
    ledgers(place, [1, 2])
    with serving(ScriptedServer(text_policy(tiny_chat(), survey), tiny_model())) as server:
        ramet = [sys.executable, "-m", "runtime.cli", "run", "add up", "--dir", str(place), "--url", server.url]
        read_only = [command, "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--ro-bind", str(place), str(place)]
        done = subprocess.run([*read_only, *ramet], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2, done.stderr
    assert str(place) in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
    assert [entry.name for entry in place.iterdir()] == ["ledgers"]


def test_a_clock_that_jumps(place: Path) -> None:
    """Whatever the wall clock does, stamps never go back and a run was alive as long as the steady clock says."""
    wall = iter([1_000_000.0, 1_000_000.0, 500.0, 500.0])
    seconds = [0.0]

    def recorder(layout: RunLayout) -> Recorder:
        return Recorder(layout, clock=lambda: next(wall), steady=lambda: seconds[0])

    layout = RunLayout.create(place)
    first = recorder(layout)
    first.open(Settings(), "task")
    for _ in range(3):
        seconds[0] += 2.0
        first.commit(Started(agent=first.state.next_agent(), segment=first.state.next_segment, tokens=(1,), task="t"))
    first.close()
    seconds[0] += 5_000.0  # nobody was alive then
    next(wall)
    again = recorder(layout)  # on a day long before
    again.reopen()
    seconds[0] += 3.0
    again.commit(Ended(agent="a1", outcome=Outcome.FINISHED))
    again.close()
    stamps = [record.at for record in records(layout)]
    assert stamps == sorted(stamps)
    assert load(layout).active_s == pytest.approx(9.0)


def test_histories_that_the_disk_had_no_room_for(place: Path) -> None:
    """On resuming, a history that stopped early is written again, whole, and the others are left as they are."""
    layout = RunLayout.create(place)
    first = Recorder(layout)
    first.open(Settings(), "task")
    for agent, segment in (("a1", 1), ("a2", 2)):
        first.commit(Started(agent=agent, segment=segment, tokens=(1, 2, 3), task="t"))
    for segment in (3, 4):
        first.commit(Given(agent="a1", segment=segment, tokens=(segment,)))
    first.commit(Ended(agent="a2", outcome=Outcome.FINISHED))
    first.close()
    whole, other = layout.history("a1").read_text(), layout.history("a2").stat()
    journal = layout.journal.read_bytes()
    for kept in (0, whole.index("\n\n"), whole.rindex("\n\n## ") + 1, len(whole) - 3):
        layout.history("a1").write_text(whole[:kept])
        layout.journal.write_bytes(journal)
        again = Recorder(layout)
        again.reopen()
        again.close()
        assert layout.history("a1").read_text() == whole
    assert layout.history("a2").stat().st_mtime_ns == other.st_mtime_ns


def test_what_a_crash_kept_from_the_readable_files_is_written_on_resuming(place: Path) -> None:
    """The history that its last record had not reached is made, or made whole; one that it had is left as it is."""
    layout = RunLayout.create(place)
    first = Recorder(layout)
    first.open(Settings(), "task")
    first.commit(Started(agent="a1", segment=1, tokens=(1, 2, 3), task="t"))
    first.close()
    whole = layout.history("a1").read_text()
    for left in (None, "# a1: started\n", whole):
        layout.history("a1").unlink()
        if left is not None:
            layout.history("a1").write_text(left)
        journal = layout.journal.read_bytes()
        again = Recorder(layout)
        again.reopen()
        again.close()
        assert layout.history("a1").read_text() == whole
        layout.journal.write_bytes(journal)
