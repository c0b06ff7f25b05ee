"""Every error this floor raises, and who is expected to catch it.

    WorkspaceError                 one line that names the path; the runtime shows it and exits with code 2
    ├── NotARun                    there is no run where one was looked for
    ├── RunExists                  a new run would overwrite an old one
    ├── BadName                    a run or agent name that is not a plain file name
    ├── RecordFailed               a readable record (prompt, history, result) could not be written
    ├── MailFailed                 a letter could not be delivered, a mailbox not be read or watched
    ├── JournalError               the journal cannot be opened, read or extended: the run stops
    │   ├── JournalLocked          another process holds this run
    │   └── JournalCorrupt         a whole line that does not decode; names file and line number
    ├── FileError                  a model's file operation; the message goes back to the model as its result
    │   ├── FileRefused            outside the tree, a link, a device, not writable, too large, a bad pattern
    │   └── FileMissing            nothing has that name
    ├── CommandRefused             a command was not started; the message goes back to the model
    └── BranchFailed               an isolated copy was not made, compared or merged; goes back to the model
        └── BranchMissing          there is no isolated copy, or only half of one

Messages are whole sentences for a person or a model. Facts that code may need are attributes: nothing parses
text.
"""

from pathlib import Path


class WorkspaceError(Exception):
    """The root of the tree above. `path` is the file or directory it is about."""

    def __init__(self, path: Path | str, message: str) -> None:
        super().__init__(message)
        self.path = Path(path)


class NotARun(WorkspaceError):
    """Nothing at `path` is a run."""


class RunExists(WorkspaceError):
    """`path` is already a run; a run is never overwritten."""


class BadName(WorkspaceError):
    """A run or agent name that cannot be used as a file name."""


class RecordFailed(WorkspaceError):
    """A file that could be rebuilt from the journal was not written. The run may go on without it."""


class MailFailed(WorkspaceError):
    """The disk refused, or the letter is too long. Everything may be tried again: nothing is delivered twice."""


class JournalError(WorkspaceError):
    """The journal could not be opened, read, extended or made durable."""


class JournalLocked(JournalError):
    """Another process has this journal open for appending."""


class JournalCorrupt(JournalError):
    """A whole line that its decoder does not accept. `line` counts from 1; line 1 is the header."""

    def __init__(self, path: Path | str, line: int, reason: str) -> None:
        super().__init__(path, f"{path}:{line}: corrupt journal line: {reason}")
        self.line = line


class FileError(WorkspaceError):
    """A file operation that did not happen. `path` is as the model wrote it."""


class FileRefused(FileError):
    """The operation is not allowed on this path, whatever is there."""


class FileMissing(FileError):
    """There is no such file."""


class CommandRefused(WorkspaceError):
    """The command was not started. `path` is the working directory."""


class BranchFailed(WorkspaceError):
    """An isolated copy could not be made, compared or merged. `path` is the copy, or the directory it is of."""


class BranchMissing(BranchFailed):
    """The agent has no isolated copy, or one whose making was interrupted."""
