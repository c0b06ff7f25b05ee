"""No process outlives us: real processes, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from runtime.engine.base import EngineRefused, EngineUnavailable
from runtime.engine.environment import Environment, Kind
from runtime.engine.server import SUPERVISOR, ServerOptions, command, managed_server, resolve_model

# A server with everything that makes one hard to end: it ignores SIGTERM, has a child in its group, and one that left
# the group with a double fork. It writes the pids of all three.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
def note():
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
note()
if os.fork() == 0:
    note()
    time.sleep(1000)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        note()
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""
# Whoever starts a server: starts the supervisor with a pipe, says its pid, and waits.
STARTER = """
import subprocess, sys, time
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
print(process.pid, flush=True)
time.sleep(1000)
"""
SOON_S = 10.0


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Started:
    """A starter, its supervisor and a stubborn server of three processes."""

    def __init__(self, directory: Path) -> None:
        self.scratch = directory / "scratch"
        self.scratch.mkdir()
        pids = directory / "pids"
        server = [sys.executable, "-c", STUBBORN, str(pids)]
        supervisor = [sys.executable, "-I", "-S", str(SUPERVISOR), str(directory / "log"), str(self.scratch), "0.2"]
        self.starter = subprocess.Popen([sys.executable, "-c", STARTER, *supervisor, *server], stdout=subprocess.PIPE)
        assert self.starter.stdout is not None
        self.supervisor = int(self.starter.stdout.readline())
        _wait(lambda: pids.exists() and len(pids.read_text().split()) == 3)
        self.servers = [int(pid) for pid in pids.read_text().split()]

    def all_gone(self) -> bool:
        """Whether neither the supervisor nor any process of the server is left."""
        return not any(_alive(pid) for pid in [self.supervisor, *self.servers])


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """Started, and whatever a failing test leaves is killed by pid."""
    it = Started(tmp_path)
    assert all(_alive(pid) for pid in [it.supervisor, *it.servers])
    yield it
    for pid in [it.starter.pid, it.supervisor, *it.servers]:
        if _alive(pid):
            os.kill(pid, signal.SIGKILL)
    it.starter.wait()
    assert it.starter.stdout is not None
    it.starter.stdout.close()


def test_sigkill_of_the_starter_ends_everything(started: Started) -> None:
    """Even what ignores SIGTERM and what left the process group; and the scratch directory is gone."""
    os.kill(started.starter.pid, signal.SIGKILL)
    started.starter.wait()
    _wait(started.all_gone)
    assert not started.scratch.exists()


def test_sigterm_to_the_supervisor_ends_everything(started: Started) -> None:
    """As at the shutdown of a machine."""
    os.kill(started.supervisor, signal.SIGTERM)
    _wait(started.all_gone)


def test_sigkill_of_the_supervisor_ends_the_server(started: Started) -> None:
    """The kernel kills the server's main process then (and SGLang's workers ask for the same)."""
    os.kill(started.supervisor, signal.SIGKILL)
    _wait(lambda: not _alive(started.servers[0]))


@pytest.mark.anyio
async def test_a_server_that_dies_while_starting(tmp_path: Path) -> None:
    """Its end is noticed at once, and the error shows the end of its log."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'no module named flux' >&2\nexit 7\n")
    python.chmod(0o755)
    (tmp_path / "config.json").write_text("{}")
    environment = Environment(directory=tmp_path, kind=Kind.CPU)
    with anyio.fail_after(SOON_S), pytest.raises(EngineUnavailable, match=r"status 7(.|\n)*no module named flux"):
        async with managed_server(str(tmp_path), environment=environment, log=tmp_path / "log"):
            pass


@pytest.mark.anyio
async def test_a_server_that_is_never_ready(tmp_path: Path) -> None:
    """Waiting is bounded, progress is reported, and the server is ended."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho $$ > $(dirname $0)/pid\nexec sleep 1000\n")
    python.chmod(0o755)
    (tmp_path / "config.json").write_text("{}")
    environment = Environment(directory=tmp_path, kind=Kind.CPU)
    lines: list[str] = []
    with pytest.raises(EngineUnavailable, match="not ready in 1 s"):
        async with managed_server(
            str(tmp_path),
            ServerOptions(ready_s=1.0),
            environment=environment,
            log=tmp_path / "log",
            progress=lines.append,
        ):
            pass
    assert lines
    assert not _alive(int((python.parent / "pid").read_text()))


def test_the_command_line() -> None:
    """The key is not on it; what was asked for is; the CPU's flags are for a CPU only."""
    options = ServerOptions(pool_tokens=4096, context_tokens=2048, flags=("--page-size", "16"))
    for kind in Kind:
        environment = Environment(directory=Path("/engine"), kind=kind)
        line = command(environment, "Qwen/Qwen3-8B", options, 25_000, Path("/scratch/key.yaml"))
        assert line[:3] == ["/engine/bin/python", "-m", "sglang.launch_server"]
        assert line[-2:] == ["--page-size", "16"]
        assert "--enable-session-radix-cache" in line
        assert line[line.index("--max-total-tokens") + 1] == "4096"
        assert ("torch_native" in line) is (kind is Kind.CPU)
        assert "--api-key" not in line


def test_models(tmp_path: Path) -> None:
    """A directory is itself, a hub name passes through, and what is not there is said at once."""
    (tmp_path / "config.json").write_text("{}")
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    assert resolve_model("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    for missing in ("/nowhere/at/all", "./nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(EngineRefused, match="no model directory"):
            resolve_model(missing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineRefused, match=r"no config\.json"):
        resolve_model(str(tmp_path / "empty"))
