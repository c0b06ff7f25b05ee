"""The journal file: lines of bytes, only ever added at the end.

Owns one append-only file. Invariants: after a crash at any byte the file holds every line whose append
returned and was synced, in order, then at most one torn line, which readers drop and the next writer cuts
off; a failed append leaves no half a line; one process writes at a time. It does not know what a line means:
the caller writes a versioned header first, decodes lines, and raises `JournalReader.corrupt` for one it
cannot decode.

A line counts as whole when its newline is there. A power cut (not a killed process) can also leave a line
that is whole but was never synced with zeros in it: it is reported as corrupt rather than guessed at.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from workspace._disk import sync_directory, write_whole
from workspace.errors import JournalCorrupt, JournalError, JournalLocked

# How much is read at a time while looking backwards for the last newline.
_BLOCK_BYTES = 1 << 16
# A run that is killed while it starts a command leaves a child that has the journal open until it becomes that command:
# milliseconds, or more on a machine under load. Who goes on with the run at once waits that out.
_LOCK_WAIT_S, _LOCK_LOOK_S = 1.0, 0.01


class JournalWriter:
    """The one writer of a journal. Appends come from one thread; `sync` may run in another."""

    def __init__(self, path: Path | str) -> None:
        """Open `path` for appending: create it durably, cut off a torn last line, lock others out.

        Raises JournalLocked where another process (or writer) has it open and still has it a second later,
        JournalError where it cannot be opened. Blocks until then.
        """
        self.path = Path(path)
        self.dropped_bytes = 0
        """How long the torn last line was that opening cut off."""
        self._broken: str | None = None
        try:
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
            )
        except OSError as error:
            raise JournalError(path, f"cannot open the journal {path}: {error.strerror}") from error
        try:
            _lock(self._descriptor)
            found = os.fstat(self._descriptor).st_size
            self._size = _whole_bytes(self._descriptor, found)
            if self._size < found:
                os.ftruncate(self._descriptor, self._size)
                self.dropped_bytes = found - self._size
            if self._size == 0:
                sync_directory(self.path.parent)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise JournalLocked(path, f"another process is running this run: {path} is locked") from error
        except OSError as error:
            os.close(self._descriptor)
            raise JournalError(path, f"cannot open the journal {path}: {error.strerror}") from error

    @property
    def size_bytes(self) -> int:
        """The length of the file: whole lines only. 0 means that the header is still to be written."""
        return self._size

    def append(self, line: bytes) -> None:
        """Add one line, without its newline, by one write. It is durable after the next `sync`.

        Raises JournalError where it could not be written whole (a full disk); the file then ends with the
        line before, and appending may be tried again. Raises ValueError for a line that holds a newline.
        """
        if b"\n" in line:
            raise ValueError("a journal line holds no newline")
        self._check()
        try:
            write_whole(self._descriptor, line + b"\n")
        except OSError as error:
            self._cut_back(error)
            raise JournalError(self.path, f"cannot write to the journal {self.path}: {error.strerror}") from error
        self._size += len(line) + 1

    def sync(self) -> None:
        """Wait until every line appended before this call is on the disk. Milliseconds; may run in a thread.

        Raises JournalError. After that nothing is known about what the disk holds, so every later call raises
        too.
        """
        self._check()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._broken = f"the journal {self.path} could not be made durable: {error.strerror}"
            raise JournalError(self.path, self._broken) from error

    def close(self) -> None:
        """Give up the file and the lock. Does not sync. Harmless when already closed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._broken = f"the journal {self.path} is closed"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._broken:
            raise JournalError(self.path, self._broken)

    def _cut_back(self, cause: OSError) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            # Half a line may be left. Appending to it would make one corrupt line of two, so nothing more is
            # written.
            self._broken = f"the journal {self.path} could not be repaired after: {cause.strerror}"


class JournalReader(Iterator[bytes]):
    """The whole lines of a journal, in order, without their newlines. Memory: one line at a time."""

    def __init__(self, path: Path | str, after: "JournalReader | None" = None) -> None:
        self.path = Path(path)
        self.line: int = after.line if after is not None else 0
        """The number of the line given last, from 1."""
        self.end: int = after.end if after is not None else 0
        """Where the line given last ends, in bytes."""
        self.dropped_bytes = 0
        """How long the torn last line is. Known once the reader is exhausted."""
        self._lines = _lines(self.path, self.end)

    def __next__(self) -> bytes:
        line = next(self._lines)
        if not line.endswith(b"\n"):
            self.dropped_bytes = len(line)
            raise StopIteration
        self.line += 1
        self.end += len(line)
        return line[:-1]

    def corrupt(self, reason: str) -> JournalCorrupt:
        """The error for the line given last, to be raised by whoever could not decode it."""
        return JournalCorrupt(self.path, self.line, reason)


def read(path: Path | str, after: JournalReader | None = None) -> JournalReader:
    """Read a journal that may be torn, or still being written by another process. Takes no lock.

    `after` is a reader that has read as far as it could: what has come since is read.

    Raises JournalError, at the first line, where the file cannot be read.
    """
    return JournalReader(path, after)


def _lines(path: Path, start: int) -> Iterator[bytes]:
    # The descriptor is closed here and not by the file object: a reader that is dropped half way (its caller
    # found a corrupt line) then closes in whatever order the garbage collector takes, without a
    # ResourceWarning.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise JournalError(path, f"cannot read the journal {path}: {error.strerror}") from error
    try:
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(start)
            yield from file
    except OSError as error:
        raise JournalError(path, f"cannot read the journal {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock others out. Raises BlockingIOError where somebody else has done so, and goes on."""
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOCK_LOOK_S)
        else:
            return


def _whole_bytes(descriptor: int, size: int) -> int:
    """How many of the file's `size` bytes are whole lines: up to and with the last newline."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
