"""Reads and replaces the contents of single files that are given as a name in an open directory. All bounded.

Knows nothing of paths beyond the words it needs for a message.
"""

import contextlib
import os
import secrets

from workspace import _beneath
from workspace._disk import write_whole
from workspace.errors import FileError, FileRefused

# Where a NUL byte shows that a file is not text: as far as git looks.
_TEXT_PROBE_BYTES = 8000
_CHUNK_BYTES = 1 << 20


def read_up_to(descriptor: int, most_bytes: int) -> bytes:
    """The next bytes of the file: `most_bytes` of them, or all that are left."""
    chunks = []
    while most_bytes > 0 and (chunk := os.read(descriptor, min(most_bytes, _CHUNK_BYTES))):
        chunks.append(chunk)
        most_bytes -= len(chunk)
    return b"".join(chunks)


def from_line(descriptor: int, offset_lines: int, most_bytes: int, skip_bytes: int, path: str) -> bytes:
    """Up to `most_bytes` bytes from the beginning of line `offset_lines` (from 0) on.

    Raises FileRefused where the file has fewer lines, or that line begins after the first `skip_bytes` bytes.
    """
    to_skip = offset_lines
    position = 0
    # Whether what was read so far ends in a line without its newline: past that one there is nothing, but no
    # error.
    unended = False
    while to_skip:
        chunk = os.pread(descriptor, _CHUNK_BYTES, position)
        if not chunk and to_skip == 1 and unended:
            break
        if not chunk:
            has = offset_lines - to_skip + unended
            raise FileRefused(path, f"{path} has only {has} lines: offset_lines={offset_lines} is past them")
        if position >= skip_bytes:
            raise FileRefused(path, f"{path}: line {offset_lines} is too far into the file to be read")
        unended = not chunk.endswith(b"\n")
        ends = chunk.count(b"\n")
        if ends < to_skip:
            to_skip -= ends
            position += len(chunk)
            continue
        end = -1
        for _ in range(to_skip):
            end = chunk.find(b"\n", end + 1)
        position += end + 1
        to_skip = 0
    os.lseek(descriptor, position, os.SEEK_SET)
    return read_up_to(descriptor, most_bytes)


def searchable(parent: int, name: str, most_bytes: int) -> bytes | None:
    """The contents of a text file of at most `most_bytes` bytes; None for any other, or one that is gone."""
    with contextlib.suppress(FileError, OSError), _beneath.regular(parent, name, name) as (descriptor, status):
        if status.st_size <= most_bytes:
            data = read_up_to(descriptor, most_bytes)
            return None if b"\0" in data[:_TEXT_PROBE_BYTES] else data
    return None


def replace(parent: int, name: str, data: bytes, path: str, *, mode: int | None) -> None:
    """Make `name` in the directory `parent` a regular file that holds `data`, at once. Raises FileError."""
    temporary = f".ramet-{secrets.token_hex(6)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _beneath.explained(path):
        descriptor = os.open(temporary, flags, 0o666, dir_fd=parent)
        try:
            try:
                if mode is not None:
                    # What runs with its owner's rights must not do so with contents of a model's.
                    os.fchmod(descriptor, mode & 0o777)
                write_whole(descriptor, data)
            finally:
                os.close(descriptor)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
