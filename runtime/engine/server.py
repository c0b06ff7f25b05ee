"""A local SGLang server: started, waited for, and ended with everything it started.

Owns the flags, the port, the key and the log of one server; `supervise.py` owns its processes.

Invariants:
- leaving `managed_server` by any way, or dying by any signal, ends every process of the server;
- it listens on the loopback interface only, and answers nobody without the key, which is never on a command line
  or in an environment that other users can read;
- while it starts, its death is noticed at once and reported with the end of its log.

Knows how to start SGLang and when it is ready; not what to ask it (`sglang.py`).
"""

from __future__ import annotations

import json
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import msgspec
import platformdirs

from runtime.engine._http import Http
from runtime.engine.base import EngineRefused, EngineUnavailable
from runtime.engine.environment import Environment, Kind, Progress, locate, variables

__all__ = ["Server", "ServerOptions", "managed_server", "resolve_model"]

SEEDLING = Path(__file__).parent.parent / "models" / "seedling"
SUPERVISOR = Path(__file__).with_name("supervise.py")
PORTS = (
    20_000,
    32_000,
)  # below Linux's ephemeral range: no outgoing connection takes it while the server starts
POLL_S = 0.2  # how often readiness is asked: unnoticeable beside a start of half a minute
LOG_LINES = 20  # of the log in an error
KEPT_LOGS = 10  # about 30 KB each
# SGLang looks for SIGTERM every 5 s and gains a tidy release of GPU memory. The CPU engine has nothing to release.
GRACE_S = {Kind.CPU: 0.0, Kind.GPU: 12.0}
STOP_S = 30.0  # far more than the supervisor needs; then its process group is killed from here


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to start a server. None leaves a choice to SGLang."""

    pool_tokens: int | None = None  # `--max-total-tokens`; on a CPU None means CPU_POOL_TOKENS
    context_tokens: int | None = None  # `--context-length`
    running_requests: int | None = None  # `--max-running-requests`; on a CPU None means CPU_RUNNING
    prefill_tokens: int | None = None  # `--chunked-prefill-size`
    flags: tuple[str, ...] = ()  # anything else, as on SGLang's command line
    ready_s: float = 900.0  # how long loading may take


CPU_POOL_TOKENS = 262_144  # the seedling's KV is about 1 KiB a token
CPU_RUNNING = 32  # two cores gain nothing from larger batches


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running server."""

    url: str
    api_key: str
    model: str
    log: Path
    pid: int  # of the supervisor


def resolve_model(name: str) -> str:
    """`seedling` is the packaged model; a directory is itself; anything else is a name on a model hub.

    Raises EngineRefused for a path that does not exist, or is not a model.
    """
    path = SEEDLING if name == "seedling" else Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise EngineRefused(f"{path} is not a model: it has no config.json")
        return str(path.absolute())
    if path is SEEDLING:
        raise EngineRefused(f"the seedling is not in this installation ({path})")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise EngineRefused(f"there is no model directory {path}")
    return name


def command(environment: Environment, model: str, options: ServerOptions, port: int, config: Path) -> list[str]:
    """The command line that starts the server (pure)."""
    out = [str(environment.python), "-m", "sglang.launch_server", "--model-path", model]
    out += ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    # Live agents' KV is evicted last; an idle server sleeps (without this the CPU engine spins one core); the access
    # log is one line a request and says nothing that the journal does not.
    out += ["--enable-session-radix-cache", "--sleep-on-idle", "--log-level-http", "warning"]
    pool, running = options.pool_tokens, options.running_requests
    if environment.kind is Kind.CPU:
        pool, running = pool or CPU_POOL_TOKENS, running or CPU_RUNNING
        # Everything else needs compiled operators that PyPI has for CUDA only. Overlapping the scheduler with the
        # model needs a second device. The warm-up request proves nothing here and takes a second.
        out += ["--device", "cpu", "--attention-backend", "torch_native", "--sampling-backend", "pytorch"]
        out += ["--disable-overlap-schedule", "--skip-server-warmup"]
    for flag, value in (
        ("--max-total-tokens", pool),
        ("--max-running-requests", running),
        ("--context-length", options.context_tokens),
        ("--chunked-prefill-size", options.prefill_tokens),
    ):
        if value is not None:
            out += [flag, str(value)]
    return [*out, *options.flags]


@asynccontextmanager
async def managed_server(
    model: str,
    options: ServerOptions | None = None,
    *,
    log: Path | None = None,
    environment: Environment | None = None,
    progress: Progress | None = None,
) -> AsyncIterator[Server]:
    """Start a server for `model` (see `resolve_model`) and end it on leaving; about half a minute on a CPU.

    `log` receives what the server prints (appended; None: a file in the user's log directory, the last KEPT_LOGS
    of which are kept). Raises EngineUnavailable with the last lines of the log if the server ends before it is
    ready, or is not ready in `options.ready_s`, and EngineRefused for a model that is not there. Cancellation ends
    the server and waits for it.
    """
    options = options or ServerOptions()
    environment = environment or locate()
    model = resolve_model(model)
    key, port = secrets.token_hex(16), _free_port()
    log = log or _own_log(port)
    scratch = _scratch(key, log)
    try:
        arguments = command(environment, model, options, port, scratch / "key.yaml")
        process = await _start(arguments, environment, log, scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)  # once started, it is the supervisor's
        raise
    server = Server(url=f"http://127.0.0.1:{port}", api_key=key, model=model, log=log, pid=process.pid)
    try:
        await _ready(server, process, options.ready_s, progress or (lambda _line: None))
        yield server
    finally:
        with anyio.CancelScope(shield=True):  # bounded: STOP_S, then SIGKILL
            await _stop(process)


async def _start(server: Sequence[str], environment: Environment, log: Path, scratch: Path) -> anyio.abc.Process:
    environ = variables(environment) | {"TMPDIR": str(scratch)}
    grace = str(GRACE_S[environment.kind])
    return await anyio.open_process(
        [sys.executable, "-I", "-S", str(SUPERVISOR), str(log), str(scratch), grace, *server],
        stdin=subprocess.PIPE,  # the life line: never written, closed by the kernel when we are gone
        stdout=subprocess.DEVNULL,
        stderr=None,
        env=environ,
        start_new_session=True,  # Ctrl-C is ours to handle: agents finish their turn before the engine goes
    )


async def _ready(server: Server, process: anyio.abc.Process, within_s: float, report: Progress) -> None:
    ended = False
    ready = False
    started = anyio.current_time()

    async def watch() -> None:
        nonlocal ended
        await process.wait()
        ended = True
        group.cancel_scope.cancel()

    with anyio.move_on_after(within_s):
        async with Http(server.url, connections=1) as http, anyio.create_task_group() as group:
            group.start_soon(watch)
            while not ready:
                await anyio.sleep(POLL_S)
                report(f"starting the engine: {anyio.current_time() - started:.0f} s")
                try:
                    await http.control("GET", "/ready", timeout_s=5)
                    ready = True
                except EngineUnavailable:
                    continue
            group.cancel_scope.cancel()
    if ended or not ready:
        what = f"ended with status {process.returncode}" if ended else f"was not ready in {within_s:.0f} s"
        raise EngineUnavailable(f"the server {what}; its log {server.log} ends:\n{_tail(server.log)}")


async def _stop(process: anyio.abc.Process) -> None:
    assert process.stdin is not None
    await process.stdin.aclose()
    with anyio.move_on_after(STOP_S):
        await process.wait()
    if process.returncode is None:
        process.kill()  # the kernel then kills the server, whose workers follow
        await process.wait()


def _scratch(key: str, log: Path) -> Path:
    """A new private directory, the server's TMPDIR, with its key in a file; and the log's directory."""
    log.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="ramet-"))  # short: unix socket paths hold about 100 characters
    config = scratch / "key.yaml"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"api-key": key}))  # JSON is YAML
    return scratch


def _own_log(port: int) -> Path:
    directory = platformdirs.user_log_path("ramet")
    old = sorted(directory.glob("engine-*.log"), key=lambda path: path.stat().st_mtime)
    for path in old[: -KEPT_LOGS + 1]:
        path.unlink(missing_ok=True)
    return directory / f"engine-{port}.log"


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"({error})"
    return "\n".join(lines[-LOG_LINES:]) or "(empty)"


def _free_port() -> int:
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
