"""The disk idioms that several modules share: whole writes, whole replacements, durable directory entries,
deleting a whole tree.
"""

import contextlib
import errno
import os
import secrets
import shutil
import subprocess
from pathlib import Path

# Deleting is as fast as the disk; one that hangs must not hang a run's end.
_DELETE_TIMEOUT_S = 300.0


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however many calls that takes. Raises OSError with some of it written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(path: Path, data: bytes) -> None:
    """Make `path` hold exactly `data`, at once: a reader sees the old file or the new one. Not made durable.

    Raises OSError; then the old file is untouched and nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try:
            write_whole(descriptor, data)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Make the names in the directory `path` survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete_tree(path: Path) -> None:
    """Delete a directory that a model filled, however deep and however it set the modes. Raises OSError.

    Follows no link. `rmtree` is recursive, and ends at a thousand levels or at a directory without permissions; then
    the system's own commands do it.
    """
    if not os.path.lexists(path):
        return
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(path)
        return
    for command in (["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]):
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [*command, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_DELETE_TIMEOUT_S,
                check=False,
            )
    if os.path.lexists(path):
        raise OSError(errno.ENOTEMPTY, "not everything in it could be deleted")
