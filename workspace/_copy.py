"""Copies files between open directories, sharing their blocks where the file system can (reflinks).

Owns the store of contents that a run's isolated copies began with: one file for each distinct content, named by its
SHA-256. Invariants: no link is followed; a stored content is whole or absent, and is checked again when it is taken
out. Knows nothing of trees.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from workspace._disk import write_whole
from workspace._entries import CHUNK_BYTES, digest

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# ioctl(FICLONE) of Linux: the same number on every architecture that Python runs on but MIPS, PowerPC and SPARC,
# where the kernel refuses it as unknown and the bytes are copied.
_FICLONE = 0x40049409
_NO_REFLINKS = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)


class Copier:
    """Copies contents. `reflinks` is whether blocks were shared every time so far."""

    def __init__(self) -> None:
        self.reflinks = True
        self.copied = 0

    def copy(self, source: int, target: int) -> str:
        """Fill the new file `target` (open for reading and writing) with the open `source`; its SHA-256.

        Raises OSError.
        """
        self.copied += 1
        if self.reflinks:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError as error:
                if error.errno not in _NO_REFLINKS:
                    raise
                self.reflinks = False
            else:
                os.lseek(target, 0, os.SEEK_SET)
                return digest(target)
        total = hashlib.sha256()
        while chunk := os.read(source, CHUNK_BYTES):
            total.update(chunk)
            write_whole(target, chunk)
        return total.hexdigest()

    def copy_file(self, source: int, parent: int, name: str) -> str:
        """Make `name`, in the open directory `parent`, a new file like the open `source`: contents, mode and time.

        The time, because build tools compare it. Returns the SHA-256. Raises OSError.
        """
        status = os.fstat(source)
        target = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            content = self.copy(source, target)
            os.fchmod(target, stat.S_IMODE(status.st_mode) & 0o777)
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(target)
        return content


@contextlib.contextmanager
def temporary(parent: int, mode: int) -> Iterator[tuple[int, str]]:
    """A new file in the open directory `parent`, and its name; removed at the end unless it was moved."""
    name = f".ramet-{secrets.token_hex(6)}.tmp"
    descriptor = os.open(name, _NEW, mode, dir_fd=parent)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)


class Store:
    """Contents by their SHA-256, in the directory `path`, which is made when needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copier = Copier()

    def put(self, source: int, content: str) -> None:
        """Keep the contents of the open file `source`, whose SHA-256 is `content`. Raises OSError."""
        place = self._path / content[:2]
        if (place / content).exists():
            return
        place.mkdir(parents=True, exist_ok=True)
        parent = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with temporary(parent, 0o600) as (descriptor, name):
                os.lseek(source, 0, os.SEEK_SET)
                # What changed since it was measured must not be kept under the old name.
                if self._copier.copy(source, descriptor) == content:
                    os.rename(name, content, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            os.close(parent)

    @contextlib.contextmanager
    def get(self, content: str) -> Iterator[int | None]:
        """The open file with this content; None where it is not kept whole, as after a power cut."""
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(self._path / content[:2] / content, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                yield None
                return
            stack.callback(os.close, descriptor)
            whole = digest(descriptor) == content
            os.lseek(descriptor, 0, os.SEEK_SET)
            yield descriptor if whole else None
