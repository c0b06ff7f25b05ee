"""The mailboxes of a run: one Maildir for each agent, and for each person who takes part.

Owns everything in `<run>/mail/`. Invariants: a letter appears in a mailbox whole or not at all; a recipient has
it once, however often it is delivered; a letter stays unread until it is said to be read; one file that is no
letter hides no other, and is kept. It does not know who is alive, nor what a letter asks for.

Everything goes by file names: a delivered letter lies at `new/<id>`, once read at `cur/<id>:2,S` (S: seen). A file
that somebody else put into `new/` has an id made of its name, its inode and its time, so that dropping another
file of the same name is another letter. Nothing is synced: what a power cut takes is delivered again.

What lies in `new/` is looked at with the care due to what anybody may put there: only regular files are opened,
no link is followed, and what is too large is not read. Names that begin with a dot and empty files are left
alone: they are what editors and shells make first. Whoever drops a long text writes it elsewhere and moves it in,
as with every Maildir. A mail reader that takes letters out of `new/` takes them from the agent.

Calls block for some disk operations on small files, and may be made in any thread. Only two deliveries of the
same id must not run at once.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import structlog

from workspace._disk import write_whole
from workspace._letters import MAX_LETTER_BYTES, Letter, Malformed, parse, render
from workspace.errors import MailFailed
from workspace.layout import RunLayout, is_plain_name, plain_name
from workspace.text import harmless_name

# O_NONBLOCK: opening a FIFO must not wait for its other end. O_NOCTTY: nor may a terminal become ours.
_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SEEN = ":2,S"
# What is left of a name that somebody gave a file, so that there is room for what makes it unique.
_KEPT_NAME_LETTERS = 100
_DIGEST_BYTES = 6
# These are about one file; any other error (no more descriptors, a broken disk) is about all of them.
_THE_FILES_FAULT = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO)

_log = structlog.get_logger(__name__)


class Post:
    """Delivers and finds the letters of one run. Holds nothing open, and remembers nothing.

    Every call raises MailFailed where the disk refuses, and BadName for a mailbox or an id that is no plain file name.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout

    def open(self, name: str) -> Path:
        """Make the mailbox `name`, unless it is there. Returns its path."""
        mailbox = self._layout.mail(name)
        with _refusals(mailbox):
            for folder in ("tmp", "cur", "new"):
                (mailbox / folder).mkdir(parents=True, exist_ok=True)
        return mailbox

    def names(self) -> list[str]:
        """The mailboxes there are, sorted."""
        with _refusals(self._layout.mails):
            return sorted(entry.name for entry in _scan(self._layout.mails) if is_plain_name(entry.name))

    def waiting(self, names: Iterable[str] | None = None) -> list[str]:
        """Those of the mailboxes (all by default) with anything in `new/`. Reads none of it."""
        names = self.names() if names is None else names
        return [name for name in names if _visible(self._layout.mail(name) / "new")]

    def deliver(self, letter: Letter) -> tuple[str, ...]:
        """Put `letter` into the mailbox of everybody it is to. Returns those who did not have it yet.

        A missing mailbox is made. After a failure some may have it and others not: deliver it again. Raises
        MailFailed also where the letter is longer than MAX_LETTER_BYTES.
        """
        plain_name(letter.id)
        mailboxes = {name: self._layout.mail(name) for name in letter.to}
        data = render(letter, self._layout.run)
        if len(data) > MAX_LETTER_BYTES:
            raise MailFailed(
                self._layout.mails,
                f"the letter is too long: {len(data)} bytes, at most {MAX_LETTER_BYTES} (send the path of a file)",
            )
        got = []
        for name, mailbox in mailboxes.items():
            with _refusals(mailbox):
                if not mailbox.joinpath("new").is_dir():
                    self.open(name)
                if not _has(mailbox, letter.id):
                    _put(mailbox, letter, data)
                    got.append(name)
        return tuple(got)

    def unread(self, name: str) -> list[Letter]:
        """The letters in `new/`, oldest first. What is no letter is moved to `bad/`, with a warning."""
        return sorted(self._gather(name, "new"), key=_age)

    def letters(self, name: str) -> list[Letter]:
        """Every letter of the mailbox, read and unread, oldest first."""
        # `new` first: a letter that is read meanwhile is then found twice, and not missed.
        found = {letter.id: letter for folder in ("new", "cur") for letter in self._gather(name, folder)}
        return sorted(found.values(), key=_age)

    def read(self, name: str, ids: Iterable[str]) -> None:
        """Mark these letters as read: they move to `cur/`. Those that are not there, or read already, are skipped."""
        mailbox = self._layout.mail(name)
        with _refusals(mailbox):
            missing = {key for key in map(plain_name, ids) if not _see(mailbox, key, key)}
            for entry in _scan(mailbox / "new") if missing else ():
                with contextlib.suppress(FileNotFoundError):
                    key = _own_id(entry.name, entry.stat(follow_symlinks=False))
                    if key in missing:
                        _see(mailbox, entry.name, key)

    def _gather(self, name: str, folder: str) -> Iterator[Letter]:
        mailbox = self._layout.mail(name)
        with _refusals(mailbox):
            for entry in _scan(mailbox / folder):
                try:
                    letter = self._letter(mailbox, Path(entry.path))
                except FileNotFoundError:
                    continue  # Read, or taken away, by somebody else.
                except Malformed as error:
                    _set_aside(mailbox, entry, str(error))
                    continue
                if letter is not None:
                    yield letter

    def _letter(self, mailbox: Path, path: Path) -> Letter | None:
        """The letter in a file of `mailbox`; None for an empty file. Raises Malformed, or OSError."""
        data, status = _contents(path)
        if not data:
            return None
        letter = parse(data, self._layout.run)
        key = path.name.partition(":")[0]
        if not (is_plain_name(key) if path.parent.name == "cur" else letter.id == path.name):
            key = _own_id(path.name, status)
        return msgspec.structs.replace(letter, id=key, to=letter.to or (mailbox.name,), date=status.st_mtime, path=path)


def _age(letter: Letter) -> tuple[float, str]:
    return letter.date, letter.id


def _own_id(name: str, status: os.stat_result) -> str:
    """The id of a file that was put there under a name of somebody's own, whatever flags a mail reader added to it."""
    name = name.partition(":")[0]
    unique = hashlib.blake2b(
        f"{name}\0{status.st_mtime_ns}\0{status.st_ino}".encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES
    )
    safe = re.sub("[^A-Za-z0-9._-]+", "-", name).strip("._-")[:_KEPT_NAME_LETTERS]
    return f"{safe or 'letter'}-{unique.hexdigest()}"


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    """What is in `directory`, without hidden names; nothing where it does not exist."""
    try:
        with os.scandir(directory) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def _visible(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        return bool(_scan(directory))
    return False


def _has(mailbox: Path, key: str) -> bool:
    """Whether a letter is there, read or not."""
    # `new` first: letters move only from there to `cur`, so that none slips past. An empty file is what a power
    # cut leaves of one.
    with contextlib.suppress(FileNotFoundError):
        if (mailbox / "new" / key).lstat().st_size:
            return True
    # A mail reader may have given it other flags than ours.
    length = len(key)
    return any(name.startswith(key) and name[length:][:1] in ("", ":") for name in os.listdir(mailbox / "cur"))


def _put(mailbox: Path, letter: Letter, data: bytes) -> None:
    temporary = mailbox / "tmp" / f"{letter.id}.{secrets.token_hex(4)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            write_whole(descriptor, data)
        finally:
            os.close(descriptor)
        # The header's date has whole seconds; the file's keeps the order.
        os.utime(temporary, (letter.date, letter.date))
        temporary.rename(mailbox / "new" / letter.id)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _see(mailbox: Path, name: str, key: str) -> bool:
    """Move the letter in the file `name` from `new/` to `cur/`, unless that was done. False where there is none."""
    path, target = mailbox / "new" / name, mailbox / "cur" / f"{key}{_SEEN}"
    if os.path.lexists(target):
        return True
    try:
        # Nobody has been shown what an empty file will say.
        if not path.lstat().st_size:
            return False
        path.rename(target)
    except FileNotFoundError:
        return False
    return True


def _contents(path: Path) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file. Raises Malformed, or OSError where the fault is not the file's."""
    # Looked at before it is opened as well: opening a device can do something.
    _require_regular(path.lstat())
    try:
        descriptor = os.open(path, _REGULAR)
    except OSError as error:
        if error.errno in _THE_FILES_FAULT:
            raise Malformed(f"it cannot be opened: {error.strerror}") from error
        raise
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _require_regular(status)
        data = file.read(MAX_LETTER_BYTES + 1)
    if len(data) > MAX_LETTER_BYTES:
        raise Malformed(f"it is too large: more than {MAX_LETTER_BYTES} bytes")
    return data, status


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Malformed("it is not a regular file")


def _set_aside(mailbox: Path, entry: os.DirEntry[str], reason: str) -> None:
    """Keep what is no letter where it is in nobody's way."""
    try:
        (mailbox / "bad").mkdir(exist_ok=True)
        target = mailbox / "bad" / entry.name
        if os.path.lexists(target):
            target = target.with_name(secrets.token_hex(8))
        os.rename(entry.path, target)
        kept = str(target)
    except FileNotFoundError:
        return
    except OSError as error:
        kept = f"not moved: {error.strerror}"
    _log.warning("no letter", path=harmless_name(entry.path), reason=harmless_name(reason), kept=harmless_name(kept))


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MailFailed(path, f"the mail in {path} cannot be read or written: {error.strerror}") from error
