"""Files: the ground floor. Knows nothing of models, tokens, HTTP or processes of an engine."""

from workspace._bwrap import Limits, Mount
from workspace._decoding import NOT_JSON
from workspace._letters import HUMAN, MAX_LETTER_BYTES, Letter
from workspace.answers import FileText, Listing, SearchResult, Written
from workspace.branches import Branch
from workspace.conventions import Skill, find_skills, read_conventions, write_section
from workspace.errors import (
    BadName,
    BranchFailed,
    BranchMissing,
    CommandRefused,
    FileError,
    FileMissing,
    FileRefused,
    JournalCorrupt,
    JournalError,
    JournalLocked,
    MailFailed,
    NotARun,
    RecordFailed,
    RunExists,
    WorkspaceError,
)
from workspace.files import FileTree
from workspace.history import History
from workspace.journal import JournalReader, JournalWriter
from workspace.journal import read as read_journal
from workspace.layout import RAMET, RunLayout, run_name
from workspace.mail import Post
from workspace.merges import Change, Conflict, Merge, Patch
from workspace.sandbox import CommandResult, Sandbox, SandboxProbe
from workspace.system import System, note_system, noted_system
from workspace.text import harmless, harmless_name
from workspace.unpack import unpack
from workspace.watch import watch_mail

__all__ = [
    "HUMAN",
    "MAX_LETTER_BYTES",
    "NOT_JSON",
    "RAMET",
    "BadName",
    "Branch",
    "BranchFailed",
    "BranchMissing",
    "Change",
    "CommandRefused",
    "CommandResult",
    "Conflict",
    "FileError",
    "FileMissing",
    "FileRefused",
    "FileText",
    "FileTree",
    "History",
    "JournalCorrupt",
    "JournalError",
    "JournalLocked",
    "JournalReader",
    "JournalWriter",
    "Letter",
    "Limits",
    "Listing",
    "MailFailed",
    "Merge",
    "Mount",
    "NotARun",
    "Patch",
    "Post",
    "RecordFailed",
    "RunExists",
    "RunLayout",
    "Sandbox",
    "SandboxProbe",
    "SearchResult",
    "Skill",
    "System",
    "WorkspaceError",
    "Written",
    "find_skills",
    "harmless",
    "harmless_name",
    "note_system",
    "noted_system",
    "read_conventions",
    "read_journal",
    "run_name",
    "unpack",
    "watch_mail",
    "write_section",
]
