"""The journal: whole lines in, whole lines out, whatever happens in between."""

import contextlib
import gc
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workspace
from workspace.errors import JournalCorrupt, JournalError, JournalLocked
from workspace.journal import JournalWriter, read

lines = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b" ")), max_size=12)


@contextlib.contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let no file grow past `size_bytes`: writes are cut short there, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(path: Path, content: list[bytes]) -> None:
    with JournalWriter(path) as journal:
        for line in content:
            journal.append(line)
        journal.sync()


# In memory where possible: hundreds of examples would wait for the disk, and a busy one takes any time.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
on_disk = settings(deadline=None)


@on_disk
@given(lines, st.data())
def test_cut_anywhere_reads_the_whole_lines_before_the_cut(content: list[bytes], data: st.DataObject) -> None:
    """A journal cut at any byte reads as exactly its whole lines, and appending to it gives a valid journal
    again.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory) / "journal.jsonl"
        write(path, content)
        whole = path.read_bytes()
        assert whole == b"".join(line + b"\n" for line in content)
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        kept = content[: whole[:cut].count(b"\n")]
        torn = cut - sum(len(line) + 1 for line in kept)

        reader = read(path)
        assert list(reader) == kept
        assert (reader.line, reader.dropped_bytes) == (len(kept), torn)

        with JournalWriter(path) as journal:
            assert journal.dropped_bytes == torn
            journal.append(b"after")
            assert journal.size_bytes == path.stat().st_size
        again = read(path)
        assert list(again) == [*kept, b"after"]
        assert again.dropped_bytes == 0


def test_a_torn_tail_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    """The last newline is found however far back it is; a file without one becomes empty."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"one\n" + b"x" * 200_000)
    with JournalWriter(path) as journal:
        assert journal.dropped_bytes == 200_000
    assert path.read_bytes() == b"one\n"
    path.write_bytes(b"\0" * 70_000)
    with JournalWriter(path) as journal:
        assert journal.size_bytes == 0


@on_disk
@given(st.integers(0, 60))
def test_a_full_disk_leaves_no_half_line(room: int) -> None:
    """An append that does not fit raises, leaves exactly the lines before it, and works once there is room."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory) / "journal.jsonl"
        with JournalWriter(path) as journal:
            journal.append(b"header")
            with largest_file(7 + room):
                if room < 31:
                    with pytest.raises(JournalError, match=r"cannot write to the journal .*journal\.jsonl: "):
                        journal.append(b"x" * 30)
                    assert path.read_bytes() == b"header\n"
                else:
                    journal.append(b"x" * 30)
            journal.append(b"later")
        assert list(read(path))[-1] == b"later"
        assert len(list(read(path))) == (2 if room < 31 else 3)


def test_a_lock_that_is_let_go_at_once_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run may hold its journal for a moment longer, by a child that was just being started: who opens it looks
    again."""
    path = tmp_path / "journal"
    held = JournalWriter(path)
    held.append(b"one")
    monkeypatch.setattr("workspace.journal.time.sleep", lambda _: held.close())
    with JournalWriter(path) as journal:
        journal.append(b"two")
    assert list(read(path)) == [b"one", b"two"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """While one process has the journal, another gets an error that says so; after it is killed, the way is
    free.
    """
    path = tmp_path / "journal.jsonl"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from workspace.journal import JournalWriter\n"
            "journal = JournalWriter(sys.argv[1]); journal.append(b'one'); print('held', flush=True); input()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(workspace.__file__).parents[1],
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JournalLocked, match="another process"):
            JournalWriter(path)
        assert list(read(path)) == [b"one"]
        holder.kill()
    with JournalWriter(path) as journal:
        journal.append(b"two")
    assert list(read(path)) == [b"one", b"two"]


def test_a_corrupt_line_is_named_by_file_and_number(tmp_path: Path) -> None:
    """Whoever decodes the lines can say which one is bad; the dropped reader leaves nothing open."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"{}\nnot json\n{}\n")
    reader = read(path)
    assert next(reader) == b"{}"
    assert next(reader) == b"not json"
    error = reader.corrupt("malformed JSON")
    assert isinstance(error, JournalCorrupt)
    assert (error.path, error.line) == (path, 2)
    assert str(error) == f"{path}:2: corrupt journal line: malformed JSON"
    del reader
    gc.collect()


def test_misuse_and_absence_are_errors(tmp_path: Path) -> None:
    """A newline in a line is a bug; a closed writer and a missing file are errors that name the path."""
    path = tmp_path / "journal.jsonl"
    with pytest.raises(JournalError, match="cannot read the journal"):
        next(read(path))
    with pytest.raises(JournalError, match="cannot open the journal"):
        JournalWriter(tmp_path / "missing" / "journal.jsonl")
    journal = JournalWriter(path)
    with pytest.raises(ValueError, match="newline"):
        journal.append(b"a\nb")
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.append(b"a")
    with pytest.raises(JournalError, match="closed"):
        journal.sync()
