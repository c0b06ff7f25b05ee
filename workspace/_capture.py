"""Keeps what a command writes, however much it is: the ends of it in memory, the whole up to a cap in a file.

Invariants: memory is bounded by the bytes shown; the file is only made when more was written than is shown; a
disk that refuses the file never disturbs the command. Knows nothing of processes.
"""

import contextlib
import os
from pathlib import Path
from typing import Self

from workspace._disk import write_whole
from workspace.text import harmless


class Capture:
    """A sink for output. Use as a context manager; read the rest once it has all come."""

    def __init__(self, path: Path, *, shown_bytes: int, kept_bytes: int) -> None:
        self.total_bytes = 0
        self._path = path
        self._shown_bytes = shown_bytes
        self._kept_bytes = kept_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self._descriptor: int | None = None
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    @property
    def truncated(self) -> bool:
        """Whether more was written than `text` shows."""
        return self.total_bytes > self._shown_bytes

    @property
    def path(self) -> Path | None:
        """The file that holds the whole output (its first `kept_bytes` bytes), where it is not shown whole."""
        return self._path if self._descriptor is not None and not self._failed else None

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Never raises."""
        before = self.total_bytes
        self.total_bytes += len(data)
        if self.truncated:
            self._keep(bytes(self._head) + data if before <= self._shown_bytes else data, before)
        self._head += data[: max(0, self._shown_bytes - len(self._head))]
        self._tail += data
        del self._tail[: -(self._shown_bytes - self._shown_bytes // 2)]

    def text(self, whole: str) -> str:
        """What is shown: all of it, or its two ends around a line that names `whole`, where the rest is."""
        if not self.truncated:
            return harmless(self._head.decode("utf-8", "replace"))
        # The cuts may fall inside characters. Those are left out: they would look like errors in the output.
        head = self._head[: self._shown_bytes // 2].decode("utf-8", "ignore")
        tail = self._tail.decode("utf-8", "ignore")
        left_out = self.total_bytes - self._shown_bytes
        where = "it could not be kept"
        if self.path:
            kept = "whole output" if self.total_bytes <= self._kept_bytes else f"first {self._kept_bytes} bytes"
            where = f"the {kept}: {whole}"
        return harmless(f"{head}\n[{left_out} bytes left out here; {where}]\n{tail}")

    def _keep(self, data: bytes, before: int) -> None:
        already = 0 if before <= self._shown_bytes else before
        data = data[: max(0, self._kept_bytes - already)]
        if self._failed or not data:
            return
        try:
            if self._descriptor is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o644)
            write_whole(self._descriptor, data)
        except OSError:
            self._failed = True
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
