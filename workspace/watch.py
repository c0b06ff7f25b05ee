"""Notices that mail has come, whoever put it there.

Owns the watch over a run's `mail/`. Invariants: once it has started, a file that appears in a `new/` wakes its
mailbox, also where the mailbox was made a moment before, the system lost count of what happened, or no
notifications can be had at all; a mailbox is woken at most once a batch, and only while something lies in its `new/`.
It reads no letter and does not know who waits. A wake is a hint: it can come again for what is known.

What the system reports is only taken for where to look. Two things are never reported: what was put into a
directory before it was watched (a quarter of letters that come right after their mailbox was made), and what
exceeds the system's queue. So a new mailbox is looked at, and after anything at all happened, so is every one.
"""

import secrets
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from math import inf
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import structlog
from watchfiles import Change, awatch
from watchfiles._rust_notify import WatchfilesRustInternalError
from watchfiles.main import FileChange

from workspace.errors import MailFailed
from workspace.layout import RunLayout, is_plain_name
from workspace.mail import Post
from workspace.text import harmless_name

# The watcher's thread looks once a step whether anything happened, and reports when a step brought nothing new:
# one to two steps after the last of it. Looking takes 0.8 % of a core; at 1 ms it is 2.1 %, at 20 ms 0.2 %.
_STEP_MS = 5
# Under constant traffic every step brings something new; then it reports after this. Measured from delivery to wake:
# 11 ms in quiet, 17 ms under traffic (27 ms with 20 ms here).
_DEBOUNCE_MS = 10
# How often an idle watcher comes back, so that what it could not know is looked for.
_LULL_MS = 1000
# How soon after anything happened every mailbox is looked at. Ten thousand take a tenth of a second.
_LOOK_AT_ALL_S = 5.0
# A watcher that does not begin even by polling is tried this often: a file can vanish while it is looked at.
_ATTEMPTS = 3
_BROKEN = (OSError, WatchfilesRustInternalError)

_log = structlog.get_logger(__name__)


async def watch_mail(
    layout: RunLayout,
    wake: Callable[[str], None],
    *,
    stop: anyio.Event,
    polling: bool = False,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call `wake` with the name of every mailbox that mail comes to, until `stop` is set.

    Has started once it has seen a file appear; look into the mailboxes then, for older mail is not reported. It
    holds one of anyio's worker threads. `stop` is set also when this ends in another way: a cancellation then
    takes milliseconds, and not the seconds until the watcher's thread would come back. With `polling`, or where
    the system gives no notifications, the files are compared several times a second. Raises MailFailed where not
    even that works; what `wake` raises comes in an ExceptionGroup.
    """
    lookout = _Lookout(layout, wake)
    # A place that cannot be written to is found out here, where it is one clear error.
    await lookout.touch()
    lookout.remove()
    started = False
    failure: MailFailed | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_set_in_the_end, stop)
            # Runs when the watcher first lets go of the event loop, which is after its watches are in place.
            group.start_soon(lookout.touch)
            try:
                async with aclosing(_reports(layout.mails, stop, polling)) as reports:
                    async for changes in reports:
                        if not started and lookout.has_seen(changes):
                            started = True
                            task_status.started()
                            lookout.remove()
                        elif not started:
                            await lookout.touch()
                        await lookout.look(changes)
            except MailFailed as error:
                failure = error
            stop.set()
    finally:
        lookout.remove()
    if failure is not None:
        raise failure
    if not started:
        task_status.started()


async def _set_in_the_end(stop: anyio.Event) -> None:
    try:
        await stop.wait()
    finally:
        stop.set()


class _Lookout:
    """What one watch knows: the file it proves itself by, and where it has to look."""

    def __init__(self, layout: RunLayout, wake: Callable[[str], None]) -> None:
        self._post = Post(layout)
        self._mails = layout.mails
        self._wake = wake
        self._probe = layout.mails / f".watch-{secrets.token_hex(4)}"
        self._threads = anyio.CapacityLimiter(1)
        self._look_at_all = inf

    async def touch(self) -> None:
        """Make something happen that the watch must see. Raises MailFailed."""
        await anyio.to_thread.run_sync(_write, self._probe, limiter=self._threads)

    def has_seen(self, changes: set[FileChange] | None) -> bool:
        return changes is not None and any(path == str(self._probe) for _, path in changes)

    def remove(self) -> None:
        """Take the probe away. Does not wait: a cancelled watch could not."""
        self._probe.unlink(missing_ok=True)

    async def look(self, changes: set[FileChange] | None) -> None:
        """Wake whoever has mail where `changes` (None: nobody knows which) happened."""
        now = anyio.current_time()
        names: Iterable[str] | None = sorted(_mailboxes(changes, self._mails)) if changes else ()
        if changes is None or now >= self._look_at_all:
            names, self._look_at_all = None, inf
        if changes:
            self._look_at_all = min(self._look_at_all, now + _LOOK_AT_ALL_S)
        if names is None or names:
            for name in await anyio.to_thread.run_sync(self._post.waiting, names, limiter=self._threads):
                self._wake(name)


async def _reports(mails: Path, stop: anyio.Event, polling: bool) -> AsyncGenerator[set[FileChange] | None, None]:
    """What happened below `mails`, at least once a second; None where something may have gone unreported."""
    failures, lost = 0, False
    while not stop.is_set():
        watcher = awatch(
            mails,
            watch_filter=None,
            step=_STEP_MS,
            debounce=_DEBOUNCE_MS,
            rust_timeout=_LULL_MS,
            yield_on_timeout=True,
            stop_event=stop,
            force_polling=polling or None,
        )
        try:
            async with aclosing(watcher):
                async for changes in watcher:
                    failures = 0
                    if lost:
                        lost = False
                        yield None
                    yield changes
        except _BROKEN as error:
            # It did not begin: too many watches, a disk that gives no notifications.
            lost = True
            failures += 1
            if failures > _ATTEMPTS:
                raise MailFailed(mails, f"the mail in {mails} cannot be watched: {error}") from error
            if not polling:
                _log.warning("no notifications of mail here: it is looked for", reason=harmless_name(str(error)))
            polling = True
        except ExceptionGroup as group:
            # It had begun, and met what it cannot report, such as a file whose name is not UTF-8.
            lost = True
            reasons, bugs = group.split(_BROKEN)
            if bugs is not None:
                raise
            _log.warning("the watch over mail begins again", reason=harmless_name(repr(reasons)))


def _mailboxes(changes: set[FileChange], mails: Path) -> set[str]:
    """Those that may have got mail: a file in `new/` came or changed, or the mailbox itself came."""
    names = set()
    for change, path in changes:
        name, _, place = path.removeprefix(f"{mails}/").partition("/")
        folder, _, file = place.partition("/")
        if change is not Change.deleted and is_plain_name(name) and folder in ("", "new") and file[:1] != ".":
            names.add(name)
    return names


def _write(probe: Path) -> None:
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
    except OSError as error:
        raise MailFailed(probe, f"the mail in {probe.parent} cannot be watched: {error.strerror}") from error
