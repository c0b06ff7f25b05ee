"""Feeds files to a matcher process and collects what it finds, within a deadline.

Invariant: whatever the pattern, `search_files` returns within its deadline plus the time of one file's read,
and the process is gone when it does. Knows nothing of where files come from.
"""

import contextlib
import itertools
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from workspace.errors import FileRefused

_MATCHER = Path(__file__).with_name("_matcher.py")
# The matcher's exit status for a pattern that does not compile; it is the matcher's own word for it.
_BAD_PATTERN = 2


class Match(NamedTuple):
    """A line that matches: the file's number in the order sent, the line's number from 1, and its text."""

    file: int
    line: int
    text: str


class Found(NamedTuple):
    """The first matches, at most one more than asked for, and whether time ran out before all was searched."""

    matches: list[Match]
    timed_out: bool


def search_files(pattern: str, files: Iterable[bytes], *, most: int, deadline_s: float) -> Found:
    """The lines of `files` in which the regular expression `pattern` is found, up to `most` + 1 of them.

    Blocks up to `deadline_s` seconds. Takes one file at a time. Raises FileRefused for a bad pattern.
    """
    expired = threading.Event()
    with tempfile.TemporaryFile() as results:
        matcher = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_MATCHER), str(most + 1)],
            stdin=subprocess.PIPE,
            stdout=results,
            stderr=subprocess.DEVNULL,
            env={},
        )

        def expire() -> None:
            expired.set()
            matcher.kill()

        timer = threading.Timer(deadline_s, expire)
        timer.start()
        try:
            # A matcher that has found enough, was given a bad pattern or was killed no longer takes input.
            with contextlib.suppress(BrokenPipeError), matcher:
                assert matcher.stdin is not None
                for record in itertools.chain([pattern.encode("utf-8", "surrogatepass")], files):
                    matcher.stdin.write(len(record).to_bytes(8, "big") + record)
        finally:
            timer.cancel()
            matcher.kill()
            matcher.wait()
        results.seek(0)
        output = results.read()
    if matcher.returncode == _BAD_PATTERN:
        reason = output.decode() or "it takes too much memory"
        raise FileRefused(pattern, f"not a usable regular expression: {reason}")
    if matcher.returncode and not expired.is_set():
        raise FileRefused(pattern, "the search took too much memory: simplify the pattern or narrow the path")
    return Found([_match(line) for line in output.split(b"\n")[:-1]], expired.is_set())


def _match(line: bytes) -> Match:
    file, number, text = line.split(b":", 2)
    return Match(int(file), int(number), text.decode())
