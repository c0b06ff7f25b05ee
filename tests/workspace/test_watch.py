"""The watch over a run's mail, on both event loops, against real files."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

import workspace
from workspace import Letter, MailFailed, Post, RunLayout, watch_mail

pytestmark = pytest.mark.anyio

# A wake takes milliseconds; a machine that does something else may take any time.
SOON_S = 20.0


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout.create(tmp_path, name="20261122-081501-k3f9")


@pytest.fixture
def post(layout: RunLayout) -> Post:
    return Post(layout)


class Woken:
    """Keeps the names that were woken, and lets a test wait for some."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._changed = anyio.Event()

    def __call__(self, name: str) -> None:
        self.names.append(name)
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for(self, *names: str) -> list[str]:
        """Until each of `names` is among them. Returns all, and forgets them."""
        with anyio.fail_after(SOON_S):
            while not set(names) <= set(self.names):
                await self._changed.wait()
        woken, self.names = self.names, []
        return woken


@asynccontextmanager
async def watched(layout: RunLayout, *, polling: bool = False) -> AsyncIterator[Woken]:
    woken, stop = Woken(), anyio.Event()

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await watch_mail(layout, woken, stop=stop, polling=polling, task_status=task_status)

    with anyio.fail_after(3 * SOON_S):
        async with anyio.create_task_group() as group:
            await group.start(run)
            try:
                yield woken
            finally:
                stop.set()


def letter(key: str, *to: str) -> Letter:
    return Letter(id=key, sender="a1", to=to, subject="", body="hi", date=1.8e9)


@pytest.mark.parametrize("polling", [False, True], ids=["notified", "polling"])
async def test_mail_wakes_whom_it_is_for(layout: RunLayout, post: Post, polling: bool) -> None:
    """From the moment the watch has started, delivered letters and dropped files wake their mailboxes, and no other."""
    for name in ("a1", "a2", "a3"):
        post.open(name)
    async with watched(layout, polling=polling) as woken:
        assert list(layout.mails.glob(".*")) == []
        post.deliver(letter("k1", "a2"))
        await woken.wait_for("a2")
        post.read("a2", ["k1"])
        dropped = layout.mail("a3") / "new" / "note"
        dropped.write_text("hi")
        assert set(await woken.wait_for("a3")) <= {"a2", "a3"}
        post.deliver(letter("k2", "a1", "a2"))
        await woken.wait_for("a1", "a2")


async def test_only_new_mail_wakes(layout: RunLayout, post: Post) -> None:
    """Reading mail, editors' temporaries, what is no mailbox and what is no letter are nobody's business."""
    for name in ("a1", "a2"):
        post.open(name)
    post.deliver(letter("old", "a2"))
    async with watched(layout) as woken:
        post.read("a2", ["old"])
        (layout.mail("a2") / "new" / ".note.swp").write_text("not yet")
        (layout.mail("a2") / "cur" / "copy").write_text("put there by a mail reader")
        (layout.mail("a2") / "tmp" / "half").write_text("half")
        (layout.mails / ".hidden").mkdir()
        (layout.mails / "no mailbox").mkdir()
        (layout.mails / "file").write_text("")
        layout.history("a2").parent.mkdir()
        layout.history("a2").write_text("# grows with every turn")
        post.deliver(letter("k1", "a1"))
        assert set(await woken.wait_for("a1")) == {"a1"}


async def test_many_letters_at_once_are_few_wakes(layout: RunLayout, post: Post) -> None:
    """A batch wakes a mailbox once, however many letters it brings; constant traffic holds no batch back."""
    post.open("a2")
    async with watched(layout) as woken:
        began = time.monotonic()
        for number in range(200):
            post.deliver(letter(f"k{number}", "a2"))
            await anyio.lowlevel.checkpoint()
        post.deliver(letter("last", "a3"))
        names = await woken.wait_for("a3")
        # A batch takes a step at least.
        assert 1 <= names.count("a2") <= 1 + (time.monotonic() - began) / 0.005


async def test_a_mailbox_made_a_moment_before(layout: RunLayout, post: Post) -> None:
    """A letter that comes together with its mailbox wakes it, though the system reports no such letter."""
    async with watched(layout) as woken:
        for number in range(60):
            post.deliver(letter("k1", f"a{number}"))
            await woken.wait_for(f"a{number}")


async def test_a_name_that_cannot_be_reported(layout: RunLayout, post: Post) -> None:
    """A file name that is no text breaks the watcher, and the watch goes on: that file wakes, and the ones after it."""
    post.open("a2")
    with capture_logs() as logs:
        async with watched(layout) as woken:
            for _ in range(2):
                path = layout.mail("a2") / "new" / os.fsdecode(b"caf\xe9")
                path.write_text("hi")
                await woken.wait_for("a2")
                (found,) = post.unread("a2")
                post.read("a2", [found.id])
            post.deliver(letter("k1", "a3"))
            await woken.wait_for("a3")
    assert {line["event"] for line in logs} == {"the watch over mail begins again"}


async def test_cancelling_is_prompt(layout: RunLayout, post: Post) -> None:
    """A cancelled watch is gone, its stop set and its probe removed, long before its thread would come back."""
    woken, stop = Woken(), anyio.Event()

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await watch_mail(layout, woken, stop=stop, task_status=task_status)

    with anyio.fail_after(SOON_S):
        async with anyio.create_task_group() as group:
            await group.start(run)
            # After this nothing happens any more, so that its thread waits.
            post.deliver(letter("k1", "a2"))
            await woken.wait_for("a2")
            await anyio.wait_all_tasks_blocked()
            began = time.monotonic()
            group.cancel_scope.cancel()
    assert time.monotonic() - began < 0.5
    assert stop.is_set()
    assert list(layout.mails.glob(".*")) == []
    assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


async def test_cancelling_before_it_has_started(layout: RunLayout) -> None:
    """However early it is cancelled, nothing is left."""
    for checkpoints in range(8):
        stop = anyio.Event()
        async with anyio.create_task_group() as group:

            async def run(stop: anyio.Event = stop) -> None:
                await watch_mail(layout, lambda name: None, stop=stop)

            group.start_soon(run)
            for _ in range(checkpoints):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert list(layout.mails.iterdir()) == []
    assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


async def test_a_stop_that_is_set_already(layout: RunLayout) -> None:
    """It starts, ends, and whoever waits for its start hears of it."""
    async with watched(layout) as woken:
        pass
    stop = anyio.Event()
    stop.set()

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await watch_mail(layout, woken, stop=stop, task_status=task_status)

    with anyio.fail_after(SOON_S):
        async with anyio.create_task_group() as group:
            await group.start(run)
    assert woken.names == []


async def test_a_wake_that_fails(layout: RunLayout, post: Post) -> None:
    """A bug in the callback is not swallowed, and the watch ends with it."""
    stop = anyio.Event()

    def broken(name: str) -> None:
        raise ZeroDivisionError(name)

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await watch_mail(layout, broken, stop=stop, task_status=task_status)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            await group.start(run)
            post.deliver(letter("k1", "a2"))

    with anyio.fail_after(SOON_S), pytest.raises(BaseExceptionGroup) as caught:
        await both()
    assert caught.value.subgroup(ZeroDivisionError) is not None
    assert stop.is_set()


async def test_where_nothing_can_be_watched(layout: RunLayout) -> None:
    """A place that is no directory is one error that names it."""
    layout.mails.rmdir()
    layout.mails.write_text("in the way")
    stop = anyio.Event()
    with pytest.raises(MailFailed, match="mail"):
        await watch_mail(layout, lambda name: None, stop=stop)


WITHOUT_NOTIFICATIONS = """
import sys
import anyio
from workspace import Letter, Post, RunLayout, watch_mail

async def main():
    layout = RunLayout.create(sys.argv[1])
    stop = anyio.Event()
    def wake(name):
        print("woken", name, flush=True)
        stop.set()
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: watch_mail(layout, wake, stop=stop, task_status=task_status))
        Post(layout).deliver(Letter(id="k1", sender="a1", to=("a2",), subject="", body="", date=1.8e9))

anyio.run(main, backend=sys.argv[2])
"""


async def test_without_notifications_it_looks(tmp_path: Path, anyio_backend_name: str) -> None:
    """Where the system has no more room for watches, a warning says so and mail is found by looking."""
    unshare = shutil.which("unshare")
    limit = "echo 0 > /proc/sys/user/max_inotify_instances && "
    alone = [unshare or "unshare", "--user", "--map-root-user", "sh", "-c"]
    if not unshare or (await anyio.run_process([*alone, limit + "true"], check=False)).returncode:
        pytest.skip("no user namespace in which the system's limits could be lowered")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(WITHOUT_NOTIFICATIONS))
    command = f'{limit}exec "$0" "$@"'
    done = await anyio.run_process(
        [*alone, command, sys.executable, str(script), str(tmp_path), anyio_backend_name],
        env={"PYTHONPATH": str(Path(workspace.__file__).parents[1])},
    )
    assert "woken a2" in done.stdout.decode()
    assert "no notifications of mail here" in done.stdout.decode()
