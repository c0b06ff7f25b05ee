"""What is in a directory tree, as values that can be compared: its files by their contents, its links by their
targets.

Invariants: no link is followed; nothing named `.git` or `.ramet`, at any depth and in any case, is in a tree; a
name that cannot be looked at is never taken for one that is gone. Paths are relative, with `/`, as `os.fsdecode`
gives them; on disk they are percent-encoded, because a file's name need not be text. It does not know why trees are
compared.
"""

import contextlib
import enum
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from workspace.errors import BranchFailed
from workspace.files import PROTECTED

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for its other end. O_NOCTTY: nor may a terminal become ours.
REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
CHUNK_BYTES = 1 << 20

# A tree this large takes half a minute to copy; nobody waits for more of it without having asked.
_MOST_NAMES = 400_000
# Every directory is opened from the root down, so the work grows with the square of the depth.
_MOST_DEPTH = 256
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Kind(enum.StrEnum):
    """What a name is. UNREADABLE may be anything; SPECIAL is a FIFO, a socket or a device."""

    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"
    SPECIAL = "special"
    UNREADABLE = "unreadable"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One name. `content` is a file's SHA-256 or a link's target, encoded; `executable` is for its owner."""

    kind: Kind
    content: str = ""
    executable: bool = False


def encode(path: str) -> str:
    """`path` as text that every file can hold; readable for ordinary names."""
    return quote_from_bytes(os.fsencode(path), safe="/ +,=@()[]!'")


def decode(text: str) -> str:
    """The path that `encode` was given."""
    return os.fsdecode(unquote_to_bytes(text))


def is_protected(path: str) -> bool:
    """Whether `path` lies in a repository's or a run's own files, which are no part of a tree."""
    return any(name.casefold() in PROTECTED for name in path.split("/"))


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[int]:
    """The descriptor of the root of a tree. Raises BranchFailed."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BranchFailed(directory, f"{directory} cannot be opened: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def beneath(root: int, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """The descriptor of the directory `parts` below `root`, reached through real directories only; made where missing
    if `create`. Raises OSError.
    """
    descriptor = os.dup(root)
    try:
        for name in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
            below = os.open(name, DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def regular(parent: int, name: str) -> Iterator[int]:
    """The descriptor of a regular file. Raises OSError."""
    descriptor = os.open(name, REGULAR, dir_fd=parent)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def split(path: str) -> tuple[list[str], str]:
    """The directories of `path`, and its name."""
    *above, name = path.split("/")
    return above, name


def look(root: int, path: str) -> Entry | None:
    """What is at `path` below the open directory `root`; None where nothing is. Reads a file whole. Never raises."""
    above, name = split(path)
    try:
        with beneath(root, above) as parent:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return link(os.readlink(name, dir_fd=parent))
            if stat.S_ISDIR(status.st_mode):
                return Entry(Kind.DIRECTORY)
            if not stat.S_ISREG(status.st_mode):
                return Entry(Kind.SPECIAL)
            with regular(parent, name) as descriptor:
                return file(digest(descriptor), os.fstat(descriptor).st_mode)
    except OSError as error:
        return None if error.errno in _ABSENT else Entry(Kind.UNREADABLE)


def link(target: str) -> Entry:
    return Entry(Kind.LINK, encode(target))


def file(sha256: str, mode: int) -> Entry:
    return Entry(Kind.FILE, sha256, bool(mode & stat.S_IXUSR))


def digest(descriptor: int) -> str:
    """The SHA-256 of an open file from where it stands. Raises OSError."""
    total = hashlib.sha256()
    while chunk := os.read(descriptor, CHUNK_BYTES):
        total.update(chunk)
    return total.hexdigest()


def look_at(root: int, paths: Iterable[str]) -> dict[str, Entry]:
    """What can be part of a tree at each of `paths`: files, links, and what may be one but cannot be read."""
    found = ((path, look(root, path)) for path in paths)
    return {path: entry for path, entry in found if entry and entry.kind not in (Kind.DIRECTORY, Kind.SPECIAL)}


def walk(root: int, below: str = "", *, protected: bool = False) -> tuple[list[str], list[str]]:
    """The paths of everything below the open `root`, or below `below` in it: what is no directory, and what is.

    What is protected is left out unless asked for; a directory that cannot be read seems empty. Raises BranchFailed
    where there is too much.
    """
    others: list[str] = []
    directories: list[str] = []
    left = [below]
    while left:
        path = left.pop()
        parts = path.split("/") if path else []
        if len(others) + len(directories) > _MOST_NAMES:
            raise BranchFailed(path, f"too many files for an isolated copy: more than {_MOST_NAMES}")
        if len(parts) > _MOST_DEPTH:
            raise BranchFailed(path, f"directories nested too deep for an isolated copy: more than {_MOST_DEPTH}")
        with contextlib.suppress(OSError), beneath(root, parts) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                if not protected and entry.name.casefold() in PROTECTED:
                    continue
                inner = f"{path}/{entry.name}" if path else entry.name
                if entry.is_dir(follow_symlinks=False):
                    directories.append(inner)
                    left.append(inner)
                else:
                    others.append(inner)
    return others, directories
