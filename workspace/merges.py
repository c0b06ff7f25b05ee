"""What isolated copies answer: frozen values, each with a bounded `summary` for a model.

Knows nothing of how they come about. All names and texts are harmless to show.
"""

from pathlib import Path
from typing import Literal

import msgspec

SHOWN_NAMES = 20
"""How many file names a summary lists."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a copy changed. The path is harmless to show."""

    path: str
    change: Literal["added", "modified", "deleted"]


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """All that a copy changed since it was made. `path` holds the differences; binary files are only named there."""

    changes: tuple[Change, ...]
    path: Path

    @property
    def summary(self) -> str:
        """One bounded line for a model."""
        named = _named([f"{change.change} {change.path}" for change in self.changes])
        return f"{_files(len(self.changes))} changed{named}"


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was left as it is, and why. `text` shows both sides between markers, cut to a few kilobytes.

    `file` is the whole of that; of what is no text (a binary file, a very large one), it is the copy's side. "" and
    None where there is nothing to show, such as a link, or a conflict past the first ones.
    """

    path: str
    reason: str
    text: str = ""
    file: Path | None = None


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a merge: the files that were changed, and those in conflict."""

    applied: tuple[str, ...]
    conflicts: tuple[Conflict, ...]

    @property
    def summary(self) -> str:
        """A bounded text for a model, one line for each conflict; their `text` is not in it."""
        lines = [f"{_files(len(self.applied))} changed{_named(list(self.applied))}"]
        if self.conflicts:
            lines.append(f"{_files(len(self.conflicts))} left as they are, in conflict:")
            lines += [f"- {conflict.path}: {conflict.reason}" for conflict in self.conflicts[:SHOWN_NAMES]]
            if len(self.conflicts) > SHOWN_NAMES:
                lines.append(f"- and {len(self.conflicts) - SHOWN_NAMES} more")
        return "\n".join(lines)


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _named(names: list[str]) -> str:
    if not names:
        return ""
    more = f", and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f": {', '.join(names[:SHOWN_NAMES])}{more}"
