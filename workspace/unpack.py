"""Unpacks an archive of a whole file system into a directory, as a container's export is one.

Owns that nothing is written but below that directory, whatever the archive says: no name leads up, and none through a
link that an earlier member made. Links themselves are kept as they are, also absolute ones: they mean something where
the directory is a root. Kept are contents, permission bits, times of files, and links; not owners, set-user-id bits,
devices, pipes and extended attributes. In constant memory. Does not know what the files are for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from workspace import _beneath
from workspace.errors import FileRefused

__all__ = ["unpack"]

_CHUNK_BYTES = 1 << 20


def unpack(archive: IO[bytes], directory: Path, *, most_bytes: int, most_entries: int) -> None:
    """Unpack a tar stream, which is read to its end, into a directory that is there and empty.

    Blocks. Raises FileRefused, in one line, for what is no such archive, would lead out, or is more than that; OSError.
    """
    left_bytes, left_entries = most_bytes, most_entries
    with contextlib.closing(_Parents(directory)) as parents:
        try:
            with tarfile.open(fileobj=archive, mode="r|") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it remembers all it read, for who goes back
                    left_bytes -= member.size if member.isreg() else 0
                    left_entries -= 1
                    if left_bytes < 0:
                        raise FileRefused(directory, f"more than {most_bytes >> 30} GiB of files")
                    if left_entries < 0:
                        raise FileRefused(directory, f"more than {most_entries:,} files")
                    _lay(tar, member, parents)
        except tarfile.TarError as error:
            raise FileRefused(directory, f"no whole archive: {error}") from error
        while archive.read(_CHUNK_BYTES):  # padding: whoever writes it must be able to
            pass


class _Parents:
    """The directory that a member goes into, kept open for the next one: most are neighbours."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stack = contextlib.ExitStack()
        self._parts: tuple[str, ...] | None = None
        self._descriptor = -1

    def of(self, parts: tuple[str, ...]) -> int:
        if parts[:-1] != self._parts:
            self.close()
            self._descriptor = self._stack.enter_context(_beneath.directory(self.root, parts[:-1], create=True))
            self._parts = parts[:-1]
        return self._descriptor

    def close(self) -> None:
        self._stack.close()
        self._parts = None


def _lay(tar: tarfile.TarFile, member: tarfile.TarInfo, parents: _Parents) -> None:
    parts = _parts(member.name)
    if not parts:
        return
    parent, name = parents.of(parts), parts[-1]
    if member.isdir():
        if not _make_room(parent, name, directory=True):
            os.mkdir(name, dir_fd=parent)
        os.chmod(name, 0o700 | member.mode & 0o777, dir_fd=parent)  # a directory, so no link is followed
    elif member.issym():
        _make_room(parent, name)
        os.symlink(member.linkname, name, dir_fd=parent)
    elif member.islnk():
        source = _parts(member.linkname)
        if not source or source == parts:
            raise FileRefused(member.name, f"{member.name}: a hard link to {member.linkname!r}")
        _make_room(parent, name)
        with _beneath.directory(parents.root, source[:-1]) as beside:
            os.link(source[-1], name, src_dir_fd=beside, dst_dir_fd=parent, follow_symlinks=False)
    elif member.isreg():
        content = tar.extractfile(member)
        assert content is not None
        _make_room(parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            shutil.copyfileobj(content, file, _CHUNK_BYTES)
            file.flush()
            os.fchmod(file.fileno(), 0o600 | member.mode & 0o777)
            os.utime(file.fileno(), (member.mtime, member.mtime))


def _make_room(parent: int, name: str, *, directory: bool = False) -> bool:
    """Take away what an earlier member made there; with `directory` not where it is one, which is returned."""
    status = _beneath.status_of(parent, name, name)
    if status is None:
        return False
    if directory and stat.S_ISDIR(status.st_mode):
        return True
    os.unlink(name, dir_fd=parent)
    return False


def _parts(name: str) -> tuple[str, ...]:
    """The components of a member's name below the root. Raises FileRefused."""
    parts = PurePosixPath("/", name).parts[1:]
    if ".." in parts or "\0" in name:
        raise FileRefused(name, f"{name!r} leads out of the directory")
    return parts
