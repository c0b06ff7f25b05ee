"""Where a run lives: names, creation, finding."""

import datetime
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace.errors import BadName, NotARun, RunExists, WorkspaceError
from workspace.layout import RunLayout, run_name

MORNING = datetime.datetime(2026, 11, 22, 8, 15, 1, tzinfo=datetime.UTC)


def begin(layout: RunLayout) -> RunLayout:
    layout.journal.write_bytes(b'{"version":1}\n')
    return layout


def create(directory: Path, *, seconds: int = 0, seed: int = 1) -> RunLayout:
    moment = MORNING + datetime.timedelta(seconds=seconds)
    return RunLayout.create(directory, now=lambda: moment, letters=random.Random(seed))


def test_a_run_is_made_with_its_directories(tmp_path: Path) -> None:
    """A new run has its folders, a name from the clock, and a .gitignore that hides it from the user's
    repository.
    """
    layout = create(tmp_path)
    assert layout.run.startswith("20261122-081501-")
    assert layout.root == tmp_path / ".ramet" / layout.run
    assert layout.agents.is_dir()
    assert layout.mails.is_dir()
    assert layout.notes.is_dir()
    assert (tmp_path / ".ramet" / ".gitignore").read_text() == "*\n"
    assert layout.relative(layout.history("a3")) == f".ramet/{layout.run}/agents/a3/history.md"
    assert layout.mail("a3") == layout.root / "mail" / "a3"
    assert layout.output("a3", "a3.t1.c0") == layout.root / "agents" / "a3" / "output" / "a3.t1.c0.txt"


def test_runs_of_one_second_sort_by_time() -> None:
    """A later millisecond gives a later name, whatever the letters."""
    letters = random.Random(3)
    names = [run_name(MORNING.replace(microsecond=ms * 1000), letters) for ms in range(1000)]
    assert names == sorted(names)
    assert len(set(names)) == 1000


def test_the_same_clock_and_letters_give_the_same_name(tmp_path: Path) -> None:
    """With an injected clock and random source a run's name is reproducible."""
    assert create(tmp_path, seed=7).run == run_name(MORNING, random.Random(7))


@given(st.lists(st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2900, 1, 1)), min_size=2))
def test_names_sort_by_time(moments: list[datetime.datetime]) -> None:
    """A later second gives a later name, whatever the letters."""
    letters = random.Random(0)
    utc = sorted(moment.replace(microsecond=0, tzinfo=datetime.UTC) for moment in moments)
    names = [run_name(moment, letters) for moment in utc]
    for (earlier, first), (later, second) in zip(
        zip(utc, names, strict=True), list(zip(utc, names, strict=True))[1:], strict=False
    ):
        assert earlier == later or first < second


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    """A name that is taken is refused when asked for, and drawn again when it was drawn by chance."""
    first = create(tmp_path)
    with pytest.raises(RunExists, match=first.run):
        RunLayout.create(tmp_path, name=first.run)
    letters = random.Random(1)
    second = RunLayout.create(tmp_path, now=lambda: MORNING, letters=letters)
    assert second.run != first.run


def test_find_gives_the_latest_run_that_began(tmp_path: Path) -> None:
    """The latest run is the last by name; a folder whose journal was never begun is not a run."""
    with pytest.raises(NotARun):
        RunLayout.find(tmp_path)
    old = begin(create(tmp_path))
    new = begin(create(tmp_path, seconds=5))
    create(tmp_path, seconds=9)
    (tmp_path / ".ramet" / "notes-of-mine").mkdir()
    assert RunLayout.find(tmp_path) == new
    assert RunLayout.all(tmp_path) == [old, new]


def test_a_run_is_opened_by_its_own_path_or_by_its_project(tmp_path: Path) -> None:
    """A run's directory, the project, and the `.ramet` between them all open a run; anything else says why
    not.
    """
    old = begin(create(tmp_path))
    new = begin(create(tmp_path, seconds=5))
    assert RunLayout.open(old.root) == old
    assert RunLayout.open(tmp_path) == RunLayout.open(tmp_path / ".ramet") == new
    unborn = create(tmp_path, seconds=9)
    with pytest.raises(NotARun, match=unborn.run):
        RunLayout.open(unborn.root)
    with pytest.raises(NotARun, match="nowhere"):
        RunLayout.open(tmp_path / "nowhere")


def test_a_missing_directory_is_one_clear_line(tmp_path: Path) -> None:
    """A project directory that is not there is an error of one line that names it, and nothing is made."""
    with pytest.raises(WorkspaceError) as caught:
        RunLayout.create(tmp_path / "typo")
    assert str(caught.value) == f"no such directory: {tmp_path / 'typo'}"
    assert not (tmp_path / "typo").exists()


def test_a_linked_ramet_is_refused(tmp_path: Path) -> None:
    """A `.ramet` that a repository carries as a link to elsewhere is not written through."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".ramet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError, match="symbolic link"):
        RunLayout.create(tmp_path / "project")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "-rf", ".hidden", "a\n", "x" * 300, "a\0"])
def test_an_agents_name_is_one_plain_file_name(tmp_path: Path, name: str) -> None:
    """An agent's id cannot lead out of the agents' folder."""
    layout = create(tmp_path)
    with pytest.raises(BadName):
        layout.history(name)
    with pytest.raises(BadName):
        layout.mail(name)
    with pytest.raises(BadName):
        RunLayout(tmp_path, name)
