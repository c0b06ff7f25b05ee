"""The readable record of a run: its task, and each agent's prompt, history and result, as Markdown files.

Owns these files. Invariants: a history is only ever appended to, until it is forgotten whole, and has no gap: a
paragraph that the disk refused comes before the next one, or nothing does; the other files are replaced at once, so a
reader never sees half of one; no file stays open between calls, so ten thousand agents need no descriptors. Everything
here can be rebuilt from the journal, therefore nothing is synced, and all that is read back is whether something is
missing. It does not know what a turn is.

Text that a model wrote is made harmless first: these are the files that people print to their terminals.
"""

import os
from pathlib import Path

from workspace._disk import replace_file, write_whole
from workspace.errors import RecordFailed
from workspace.layout import RunLayout
from workspace.text import harmless


class History:
    """Writes the readable record of one run. Every call blocks for one write to the page cache, no longer.

    Each raises RecordFailed where the disk refuses, and BadName for an agent's id that is no plain file name.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._owed: dict[Path, str] = {}  # what the disk refused

    def open_agent(self, agent: str, *, heading: str) -> Path:
        """Make the agent's directory and begin its history with `heading`, unless it has begun already.

        Returns the path of the history.
        """
        path = self._layout.history(agent)
        self._append(path, f"# {harmless(heading)}\n", begins=True)
        return path

    def append(self, agent: str, text: str) -> None:
        """Add a paragraph to the agent's history: `text` after an empty line, ending in a newline."""
        self._append(self._layout.history(agent), "\n" + harmless(text).rstrip("\n") + "\n")

    def append_interview(self, agent: str, text: str) -> None:
        """Add a paragraph to the record of what the agent asked and was answered."""
        self._append(self._layout.interview(agent), harmless(text).rstrip("\n") + "\n\n")

    def write_task(self, text: str) -> Path:
        """Write the run's original prompt, whole and unaltered. Returns its path."""
        return _replace(self._layout.task, text)

    def write_prompt(self, agent: str, text: str) -> Path:
        """Write what the agent was started with. Returns its path."""
        return _replace(self._layout.prompt(agent), harmless(text))

    def write_result(self, agent: str, text: str) -> Path:
        """Write the agent's result. Returns its path."""
        return _replace(self._layout.result(agent), harmless(text))

    def forget(self, agent: str) -> None:
        """Take the agent's history away, to be written anew."""
        path = self._layout.history(agent)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RecordFailed(path, f"cannot take away {path}: {error.strerror}") from error
        self._owed.pop(path, None)

    def _append(self, path: Path, text: str, *, begins: bool = False) -> None:
        owed = self._owed.pop(path, "")
        text = "" if begins and owed else text  # it has begun, though not on the disk
        try:
            if begins or owed:
                path.parent.mkdir(parents=True, exist_ok=True)
            _append(path, owed + text, only_if_empty=begins and not owed)
        except OSError as error:
            self._owed[path] = owed + text
            raise RecordFailed(path, f"cannot append to {path}: {error.strerror}") from error


def _append(path: Path, text: str, *, only_if_empty: bool) -> None:
    """All of `text` or nothing, so that it can be tried again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if only_if_empty and size:
            return
        try:
            write_whole(descriptor, text.encode())
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A command line that is not UTF-8 arrives as surrogate escapes: those go back to the bytes they were.
        replace_file(path, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise RecordFailed(path, f"cannot write {path}: {error.strerror}") from error
    return path
