"""Runs one command in a thread, with a deadline and a way to stop it, and leaves nothing of it behind.

Owns the life of one process group. Invariants: when `run_process` returns, the process has been waited for;
everything in its group has been sent SIGKILL; and where it is a bubblewrap sandbox, every process in it is
gone. It knows nothing of what runs.

A thread, and not an async process, for a reason beyond simplicity: bubblewrap's `--die-with-parent` means the
thread that started it, and trio starts processes from worker threads that end when idle. This thread stays to
the end.
"""

import contextlib
import ctypes
import enum
import json
import os
import platform
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

# How long killed processes may take to be gone. Longer means that one hangs in the kernel (a dead network
# disk): it cannot be helped, and whoever waits must not hang with it.
REAP_S = 5.0
# Where the system cannot wait for a process through a descriptor (before Linux 5.3), its end is noticed by
# asking.
_ASK_EVERY_S = 0.05
# No reason to wake, but the system's own waits overflow for weeks and for "no timeout" (infinity).
_LONGEST_WAIT_S = 3600.0
_CHUNK_BYTES = 1 << 16
# The system call `keyctl`, which the C library does not offer, and its command KEYCTL_JOIN_SESSION_KEYRING. Where the
# kernel has no keyrings it fails, and there is nothing to leave.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}
_JOIN_SESSION_KEYRING = 1


class Cause(enum.Enum):
    """Why a process ended: by itself, at its deadline, or because `Stop.set` was called."""

    EXITED = enum.auto()
    TIMED_OUT = enum.auto()
    STOPPED = enum.auto()


class Ended(NamedTuple):
    """How a process ended. `exit_code` is 128 + n for one that signal n ended."""

    cause: Cause
    exit_code: int


class Stop:
    """Tells a thread that waits on descriptors to stop. `set` may be called from any thread, more than once."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe()

    def set(self) -> None:
        os.write(self._write, b".")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
        os.close(self._write)


def run_process(
    arguments: Callable[[int], Sequence[str]],
    *,
    environment: Mapping[str, str],
    directory: Path,
    timeout_s: float,
    sink: Callable[[bytes], None],
    stop: Stop,
) -> Ended:
    """Run a command and pass what it writes (standard output and error, as they come) to `sink`.

    `arguments` is given a descriptor to which a bubblewrap may write its `--info-fd`. Blocks for up to
    `timeout_s` + `REAP_S` seconds. Raises OSError where the command cannot be started, and what `sink`
    raises, then killing it.
    """
    with _Process(arguments, environment, directory) as process:
        return process.run(time.monotonic() + timeout_s, sink, stop)


class _Process:
    """One process group with its output, and the first process of the sandbox in it, if there is one."""

    def __init__(
        self, arguments: Callable[[int], Sequence[str]], environment: Mapping[str, str], directory: Path
    ) -> None:
        self._info, info_write = os.pipe()
        _leave_keyring()
        try:
            self._process = subprocess.Popen(
                arguments(info_write),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                pass_fds=(info_write,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._info)
            raise
        finally:
            os.close(info_write)
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._exit = _exit_descriptor(self._process.pid)
        self._sandbox: int | None = None
        self._info_text = b""
        self._watched: set[int] = set()
        for descriptor in (self._output, self._info, self._exit):
            if descriptor is not None:
                self._watch(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(REAP_S)
        self._selector.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        for descriptor in (self._info, self._exit, self._sandbox):
            if descriptor is not None:
                os.close(descriptor)

    def run(self, deadline: float, sink: Callable[[bytes], None], stop: Stop) -> Ended:
        self._watch(stop.descriptor)
        cause = Cause.EXITED
        while not self._exited():
            if (left := deadline - time.monotonic()) <= 0:
                cause = Cause.TIMED_OUT
                break
            if stop.descriptor in self._handle(left, sink):
                cause = Cause.STOPPED
                break
        self._unwatch(stop.descriptor)
        # A command that ended may have left others running; until it is waited for, its group's number stays
        # its own.
        self._kill()
        deadline = time.monotonic() + REAP_S
        while self._remaining() and (left := deadline - time.monotonic()) > 0:
            self._handle(left, sink)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        code = self._process.returncode
        return Ended(cause, 128 + signal.SIGKILL if code is None else code if code >= 0 else 128 - code)

    def _exited(self) -> bool:
        if self._exit is not None:
            return self._exit not in self._watched
        return self._process.poll() is not None

    def _remaining(self) -> bool:
        """Whether something is left: the process, output to be read, or a process in the sandbox."""
        return not self._exited() or not self._watched.isdisjoint((self._output, self._sandbox))

    def _handle(self, timeout_s: float, sink: Callable[[bytes], None]) -> set[int]:
        """Wait for something to happen, deal with it, and return the descriptors it happened on."""
        timeout_s = min(timeout_s, _LONGEST_WAIT_S if self._exit is not None else _ASK_EVERY_S)
        ready = {key.fd for key, _ in self._selector.select(timeout_s)}
        if self._info in ready:
            self._read_info()
        if self._output in ready:
            data = os.read(self._output, _CHUNK_BYTES)
            if data:
                sink(data)
            else:
                self._unwatch(self._output)
        for descriptor in (self._exit, self._sandbox):
            if descriptor in ready and descriptor is not None:
                self._unwatch(descriptor)
        return ready

    def _read_info(self) -> None:
        data = os.read(self._info, _CHUNK_BYTES)
        self._info_text += data
        if data and b"}" not in self._info_text:
            return
        self._unwatch(self._info)
        if self._info_text:
            self._sandbox = _exit_descriptor(json.loads(self._info_text)["child-pid"])
            if self._sandbox is not None:
                self._watch(self._sandbox)

    def _watch(self, descriptor: int) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ)
        self._watched.add(descriptor)

    def _unwatch(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        self._watched.remove(descriptor)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._sandbox is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._sandbox, signal.SIGKILL)


def _leave_keyring() -> None:
    """Give this thread, and what it starts from now on, an empty session keyring: no namespace hides the user's, in
    which desktops and Kerberos keep secrets. Credentials are a thread's own, and this one needs none.
    """
    number = _KEYCTL.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)


def _exit_descriptor(pid: int) -> int | None:
    """A descriptor that is readable once the process is gone; None where that process or such descriptors are
    not.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
