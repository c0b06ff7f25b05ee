"""Opens files beneath a root directory, without ever leaving it.

Invariant: every descriptor given out is of something that lies in the root by a chain of real directories.
Each component is opened relative to its parent's descriptor and no link is followed, so renaming directories
or planting links meanwhile (a model's shell command may do both) changes what is found, never where. Knows
nothing of what may be written or shown.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from workspace.errors import FileError, FileMissing, FileRefused

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for its other end. O_NOCTTY: nor may a terminal become ours.
_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def split(root: Path, path: str) -> tuple[str, ...]:
    """The components of a model's `path` below `root`; empty for the root itself. Raises FileRefused."""
    if not path or "\0" in path:
        raise FileRefused(path.replace("\0", "␀"), "a path must be a non-empty name without NUL characters")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise FileRefused("?", "a path must be valid Unicode") from None
    pure = PurePosixPath(path)
    if ".." in pure.parts:
        raise FileRefused(path, f"no '..' in paths: {path} (write it from the working directory)")
    if pure.is_absolute():
        try:
            pure = pure.relative_to(root.as_posix())
        except ValueError:
            raise FileRefused(path, f"outside the working directory: {path} (use a relative path)") from None
    return pure.parts


@contextlib.contextmanager
def directory(root: Path, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """The descriptor of the directory `parts` below `root`, made where missing if `create`. Raises FileError."""
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileRefused(root, f"the working directory cannot be opened: {error.strerror}") from error
    try:
        for depth, name in enumerate(parts, start=1):
            if create:
                with contextlib.suppress(FileExistsError), explained("/".join(parts[:depth])):
                    os.mkdir(name, dir_fd=descriptor)
            with explained("/".join(parts[:depth]), descriptor, name):
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def regular(parent: int, name: str, path: str) -> Iterator[tuple[int, os.stat_result]]:
    """The descriptor and status of the regular file `name` in the directory `parent`. Raises FileError."""
    with explained(path, parent, name):
        descriptor = os.open(name, _REGULAR, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        refuse_irregular(status, path)
        yield descriptor, status
    finally:
        os.close(descriptor)


def status_of(parent: int, name: str, path: str) -> os.stat_result | None:
    """What `name` in the directory `parent` is, without following it; None where there is nothing."""
    try:
        with explained(path):
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileMissing:
        return None


def refuse_irregular(status: os.stat_result, path: str) -> None:
    """Raise FileRefused for anything but a regular file."""
    if stat.S_ISDIR(status.st_mode):
        raise FileRefused(path, f"{path} is a directory (list_files shows what is in it)")
    if stat.S_ISLNK(status.st_mode):
        raise FileRefused(path, _is_a_link(path))
    if not stat.S_ISREG(status.st_mode):
        raise FileRefused(path, f"{path} is not a regular file")


@contextlib.contextmanager
def explained(path: str, parent: int | None = None, name: str = "") -> Iterator[None]:
    """Turn an OSError into the FileError that tells a model what to do; looks at `name` in `parent` for
    links.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise _explain(error, path, parent, name) from error


def _explain(error: OSError, path: str, parent: int | None, name: str) -> FileError:
    if error.errno == errno.ENOENT:
        return FileMissing(path, f"no such file: {path} (list_files shows what there is)")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        if parent is not None:
            with contextlib.suppress(OSError):
                os.readlink(name, dir_fd=parent)
                return FileRefused(path, _is_a_link(path))
        return FileRefused(path, f"{path} is not a directory")
    if error.errno == errno.ENXIO:
        return FileRefused(path, f"{path} is not a regular file")
    return FileRefused(path, f"{path}: {os.strerror(error.errno or errno.EIO)}")


def _is_a_link(path: str) -> str:
    return f"{path} is a symbolic link; links are not followed (name the file itself)"
