"""A process that does the job, or goes on with it, until it ends or is killed.

Owns the two things that a killer must know of the killed. How much of the journal was durable: a page that both share
holds the length that the last `fsync` (or `sync`) covered, noted after it returned, so that whatever the process did
relying on it came later. And where it dies: after so many *steps*, a step being a file that is opened, renamed,
made or removed, or a record that was committed, whichever comes; so that a seed names a point of the run.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from agents.chat import Chat
from runtime.engine.scripted import ScriptedEngine, text_policy
from runtime.records import Settings
from runtime.state import RunState
from runtime.swarm import Swarm
from tests.crash.script import TASK, TOOLSET, decide
from tests.support import tiny_chat
from workspace import JournalError, JournalLocked, RunLayout

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["FINISHED", "FULL", "LOCKED", "Orders", "picture", "run"]

FINISHED, FULL, LOCKED = 0, 10, 11
STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.link", "os.symlink", "os.truncate", "os.utime"}
WARM = tiny_chat()  # loaded here, and not when it is needed: the server that forks children imports this once


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do. Files beside the run: `durable` (eight bytes), `witness`, `picture` (written at the end).

    It dies after `steps`, if not 0; no file of it may grow past `largest_file`, if not 0; and it says in `begun`, where
    that is named, that it has the run, and waits there for the file to go.
    """

    directory: str
    resume: bool
    steps: int = 0
    largest_file: int = 0
    begun: str = ""


def run(orders: Orders) -> None:
    """Do it; exits with one of the codes above, or by a signal."""
    beside = Path(orders.directory).parent
    os.environ["CRASH_WITNESS"] = str(beside / "witness.txt")
    if orders.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (orders.largest_file, orders.largest_file))
    try:
        anyio.run(partial(_main, orders, beside, WARM))
    except* JournalLocked:
        sys.exit(LOCKED)
    except* JournalError as stopped:
        (beside / "said.txt").write_text("".join(map(str, stopped.exceptions)))
        sys.exit(FULL)


async def _main(orders: Orders, beside: Path, chat: Chat) -> None:
    engine = ScriptedEngine(text_policy(chat, decide), model="script")
    layout = RunLayout.open(orders.directory) if orders.resume else None
    settings = Settings(unsandboxed=True)
    fuse = _Fuse(orders.steps)
    swarm = Swarm(
        engine,
        orders.directory,
        settings=settings,
        tools=TOOLSET,
        chat=chat,
        observers=[lambda _: fuse.step()],
        resume=layout,
    )
    async with swarm:
        _note_durable(swarm.layout.journal, beside / "durable")
        if orders.begun:
            await _wait_here(anyio.Path(orders.begun))
        fuse.light()
        lead = next(iter(swarm.handles()), None) or await swarm.start(TASK)
        await lead.result()
    (beside / "picture").write_bytes(msgspec.msgpack.encode(picture(swarm.state)))


async def _wait_here(begun: anyio.Path) -> None:
    await begun.write_text("begun")
    while await begun.exists():  # noqa: ASYNC110 (the other end is another process)
        await anyio.sleep(0.005)


class _Fuse:
    """Counts steps from the moment that it is lit, in whichever thread they happen."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self._lit = False

    def light(self) -> None:
        self._lit = self._left > 0
        if self._lit:
            sys.addaudithook(lambda event, _: self.step() if event in STEPS else None)

    def step(self) -> None:
        if self._lit:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _note_durable(journal: Path, shared: Path) -> None:
    """Let `shared` hold how many bytes of the journal are on the disk, by what this process has waited for."""
    shared.touch()
    os.truncate(shared, 8)
    with shared.open("r+b") as file:
        page = mmap.mmap(file.fileno(), 8)
    wanted = os.stat(journal)

    def noting(durable: int) -> None:
        struct.pack_into("<q", page, 0, max(durable, struct.unpack_from("<q", page)[0]))

    fsync, sync = os.fsync, os.sync

    def noted_fsync(fd: FileDescriptorLike) -> None:
        descriptor = fd if isinstance(fd, int) else fd.fileno()
        status = os.fstat(descriptor)
        fsync(descriptor)
        if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
            noting(status.st_size)

    def noted_sync() -> None:
        size = os.stat(journal).st_size
        sync()
        noting(size)

    # In this process only, and around the real ones: nothing but the system's own answer says what is durable.
    os.fsync, os.sync = noted_fsync, noted_sync


def picture(state: RunState) -> object:
    """Everything of a state that can be compared, as plain values."""
    return (
        {
            agent.id: (
                str(agent.outcome),
                agent.result,
                agent.head.id,
                agent.base.id,
                agent.children,
                agent.turns,
                agent.letters,
                [(deed.segment, deed.text) for deed in agent.deeds],
                dict(agent.delivered),
                (agent.sampled_tokens, agent.prompt_tokens, agent.cached_tokens),
            )
            for agent in state.agents.values()
        },
        {
            number: (segment.parent.id if segment.parent else 0, str(segment.origin), segment.tokens.tolist())
            for number, segment in state.segments.items()
        },
        {
            name: (account.sampled_tokens, account.computed_tokens, account.turns, account.alive)
            for name, account in state.accounts.items()
        },
        (str(state.outcome), state.result, state.forks, state.spawns, state.rewinds),
    )


def serve() -> None:
    """Fork a child for every line of orders on standard input, and say how each ended: minus its signal, or its code.

    An empty line is answered at once.

    Everything is imported by then, so that a child costs milliseconds. Kills it after `seconds`, if not 0: by its
    parent, who has not yet waited for it, so that its number is nobody else's.
    """
    for line in sys.stdin:
        if line == "\n":  # only to hear that we are here
            print(FINISHED, flush=True)
            continue
        seconds, orders = msgspec.json.decode(line, type=tuple[float, Orders])
        pid = os.fork()
        if not pid:
            code = 1
            os.dup2(2, 1)  # what it logs is not what is said here
            try:
                run(orders)
                code = FINISHED
            except SystemExit as stop:
                code = int(stop.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        if seconds:
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
