"""A root file system for commands in place of the machine's own, as a container image holds one.

Owns what a sandbox has to know of one, and its note in a run's record, by which a run that is resumed, and whoever
grades it, find the same one again. Does not know where it comes from: see `runtime.rollouts.images`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from workspace._decoding import NOT_JSON
from workspace._disk import replace_file
from workspace.errors import CommandRefused, RecordFailed
from workspace.layout import RunLayout

_NAME = "system.json"


class System(msgspec.Struct, frozen=True, kw_only=True):
    """`root` is where it lies on this machine, and is only ever read.

    The working directory is found at `workdir` in it, an absolute path without links, and commands start there.
    `environment` is what they find in theirs beside what all find.
    """

    root: Path
    workdir: Path
    environment: Mapping[str, str] = {}


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    root: str
    workdir: str
    environment: dict[str, str]


def note_system(layout: RunLayout, system: System) -> None:
    """Write down in the run's record which system its commands run on. Blocks. Raises RecordFailed."""
    note = _Note(str(system.root), str(system.workdir), dict(system.environment))
    path = layout.root / _NAME
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(note)) + b"\n")
    except OSError as error:
        raise RecordFailed(path, f"{path}: cannot be written: {error.strerror}") from error


def noted_system(layout: RunLayout) -> System | None:
    """The system that the run's commands run on; None where that is the machine's own.

    Blocks. Raises CommandRefused, in one line, where there is one that cannot be had any more.
    """
    path = layout.root / _NAME
    try:
        note = msgspec.json.decode(path.read_bytes(), type=_Note)
    except FileNotFoundError:
        return None
    except (OSError, *NOT_JSON) as error:
        raise CommandRefused(path, f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not Path(note.root).is_dir():
        raise CommandRefused(path, f"{path}: root: {note.root} is gone, and this run's commands ran on it")
    return System(root=Path(note.root), workdir=Path(note.workdir), environment=note.environment)
