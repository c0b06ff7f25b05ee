"""Files: the ground floor. Knows nothing of models, tokens, HTTP or processes of an engine."""

from workspace.errors import (
    BadName,
    CommandRefused,
    FileError,
    FileMissing,
    FileRefused,
    JournalCorrupt,
    JournalError,
    JournalLocked,
    NotARun,
    RecordFailed,
    RunExists,
    WorkspaceError,
)
from workspace.history import History
from workspace.journal import JournalReader, JournalWriter, read
from workspace.layout import RAMET, RunLayout, run_name
from workspace.text import harmless, harmless_name

__all__ = [
    "RAMET",
    "BadName",
    "CommandRefused",
    "FileError",
    "FileMissing",
    "FileRefused",
    "History",
    "JournalCorrupt",
    "JournalError",
    "JournalLocked",
    "JournalReader",
    "JournalWriter",
    "NotARun",
    "RecordFailed",
    "RunExists",
    "RunLayout",
    "WorkspaceError",
    "harmless",
    "harmless_name",
    "read",
    "run_name",
]
