"""A stand-alone program that runs one server and outlives nobody: when whoever started it goes, the server goes.

    python -I -S supervise.py LOG SCRATCH GRACE_S COMMAND...

Owns the server's processes from their start to the reaping of the last one. Standard library only, Linux only.

Invariants:
- standard input is the life line. It closes when the starter closes it, exits, or is killed by any signal, because
  the kernel closes it then; the supervisor answers with SIGTERM to the server, GRACE_S seconds, SIGKILL to all;
- no descendant escapes: the server has a process group of its own, whoever leaves that group is re-parented to the
  supervisor (a child subreaper) and killed there, and the supervisor ends only when it has no child left;
- should the supervisor itself be killed, the kernel kills the server (PDEATHSIG), whose workers do the same;
- SCRATCH, the server's TMPDIR, is removed at the end, and so are the shared-memory files the server left.

Its exit status is the server's if the server ended by itself, and 0 if it was told to stop.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
SHARED = ("sglang_", "sgl_shm", "sem.mp-")  # SGLang's own files, and multiprocessing's semaphores
SWEEP_S = 0.02  # pause between two looks at what is still alive: deaths arrive within milliseconds


def main(argv: list[str]) -> int:
    log, scratch, grace_s, *command = argv
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: asked.append(got))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the starter's to handle
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken
    me = os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != me:  # it died before the line above took effect
            os._exit(1)

    with open(log, "ab", buffering=0) as sink:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            preexec_fn=in_child,
        )
    shared: set[str] = set()
    try:
        while server.poll() is None and not asked:
            ready, _, _ = select.select([0, wake_read], [], [])
            if wake_read in ready:
                os.read(wake_read, 4096)
            if 0 in ready and not os.read(0, 4096):
                break
        status = server.poll()
        shared = _shared_memory(server.pid)
        if status is None and float(grace_s) > 0:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(float(grace_s))
    finally:
        _kill_all(server)
        shutil.rmtree(scratch, ignore_errors=True)
        for path in shared:
            with contextlib.suppress(OSError):
                os.unlink(path)
    if status is None:
        return 0
    return status if status >= 0 else 128 - status


def _kill_all(server: subprocess.Popen[bytes]) -> None:
    """Kill the server's group and then every descendant that is handed to us, until there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(SWEEP_S)


def _children() -> list[int]:
    """The pids whose parent is this process: its own children and the orphans it has adopted."""
    path = f"/proc/self/task/{os.getpid()}/children"
    try:
        with open(path) as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in _processes() if _stat(pid)[1] == os.getpid()]


def _shared_memory(group: int) -> set[str]:
    """Files under /dev/shm that the server's processes have mapped: SGLang leaves them behind however it ends.

    Matched by inode, because a semaphore's map still shows the temporary name it was made under.
    """
    mapped = set()
    for pid in _processes():
        if _stat(pid)[2] == group:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/maps") as maps:
                mapped |= {int(line.split()[4]) for line in maps if "/dev/shm/" in line}
    with contextlib.suppress(OSError), os.scandir("/dev/shm") as entries:
        return {e.path for e in entries if e.name.startswith(SHARED) and e.inode() in mapped}
    return set()


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> tuple[int, int, int]:
    """(pid, parent, process group); zeros if it is gone. The name in parentheses may itself hold anything."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return (pid, 0, 0)
    return (pid, int(fields[1]), int(fields[2]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
