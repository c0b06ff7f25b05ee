"""The readable record: task, prompts, histories, results."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace.errors import BadName, RecordFailed
from workspace.history import History
from workspace.layout import RunLayout
from workspace.text import harmless, harmless_name


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout.create(tmp_path, name="20261122-081501-k3f9")


def test_a_history_grows_and_is_never_rewritten(layout: RunLayout) -> None:
    """Appended text follows what is there, also for a writer that opens the agent again after a restart."""
    path = History(layout).open_agent("a1", heading="a1: add the ledgers")
    History(layout).append("a1", "**t1** thinking\n")
    again = History(layout)
    again.open_agent("a1", heading="another heading")
    again.append("a1", "**t2** done")
    assert path.read_text() == "# a1: add the ledgers\n\n**t1** thinking\n\n**t2** done\n"
    assert path == layout.history("a1")


def test_many_agents_keep_no_file_open(layout: RunLayout) -> None:
    """Writing for many agents leaves as many descriptors open as before."""
    history = History(layout)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        history.open_agent(f"a{number}", heading="x")
        history.append(f"a{number}", "y")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_history_has_no_gap(layout: RunLayout) -> None:
    """What the disk refused comes before what is next, once it takes it, the heading included; nothing comes twice."""
    history = History(layout)
    folder = layout.history("a1").parent
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("no directory can be made here")
    for write in (lambda: history.open_agent("a1", heading="a1"), lambda: history.append("a1", "one")):
        with pytest.raises(RecordFailed):
            write()
    folder.unlink()
    history.append("a1", "two")
    assert layout.history("a1").read_text() == "# a1\n\none\n\ntwo\n"
    history.open_agent("a1", heading="again")
    history.append("a1", "three")
    assert layout.history("a1").read_text() == "# a1\n\none\n\ntwo\n\nthree\n"


def test_a_history_that_cannot_be_forgotten_stays(layout: RunLayout) -> None:
    """Whoever writes it anew is told, and does not write it twice."""
    layout.history("a1").mkdir(parents=True)
    with pytest.raises(RecordFailed, match="take away"):
        History(layout).forget("a1")
    History(layout).forget("a2")  # there is none


def test_prompt_result_and_task_are_replaced_whole(layout: RunLayout) -> None:
    """A second result takes the place of the first, leaving no other file; the task keeps every byte it came
    with.
    """
    history = History(layout)
    history.write_result("a1", "wrong")
    assert history.write_result("a1", "42\x1b[2J").read_text() == "42␛[2J"
    assert history.write_prompt("a1", "add").read_text() == "add"
    assert sorted(path.name for path in layout.agent("a1").iterdir()) == ["prompt.md", "result.md"]
    given_bytes = b"caf\xe9 \x1b\r\n"
    assert history.write_task(os.fsdecode(given_bytes)).read_bytes() == given_bytes


def test_what_cannot_be_written_says_where(layout: RunLayout) -> None:
    """A disk that refuses is one error that names the file; an id that is a path is refused."""
    layout.agents.joinpath("a1").write_text("in the way")
    history = History(layout)
    with pytest.raises(RecordFailed, match="a1"):
        history.open_agent("a1", heading="x")
    with pytest.raises(RecordFailed, match="a2"):
        history.append("a2", "never opened")
    with pytest.raises(RecordFailed, match=r"result\.md"):
        history.write_result("a1", "x")
    with pytest.raises(BadName):
        history.write_result("../../escape", "x")


@given(st.text(st.characters(codec=None, categories=None)))
def test_harmless_text_holds_no_control_character(text: str) -> None:
    """Whatever goes in, what comes out encodes as UTF-8, holds no control but newline and tab, and stays as
    it is.
    """
    shown = harmless(text)
    shown.encode()
    assert not any(ord(letter) < 0x20 and letter not in "\n\t" for letter in shown)
    assert not any(0x7F <= ord(letter) < 0xA0 for letter in shown)
    assert harmless(shown) == shown
    assert "\n" not in harmless_name(text)


def test_harmless_text_shows_what_it_took_out() -> None:
    """Escapes are visible, lines and columns stay, Windows line ends become plain ones."""
    assert harmless("a\tb\r\nc\x1b[31mred\x00\x9b1A\r") == "a\tb\nc␛[31mred␀\\x9b1A␍"
    assert harmless("naïve 漢字 🙂") == "naïve 漢字 🙂"
    assert harmless_name("a\nb\udcff\t") == "a␊b\ufffd␉"
