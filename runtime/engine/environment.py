"""The environment SGLang runs in: where it is, what is in it, and how it gets there.

Owns one directory under the user's cache (RAMET_ENGINE_DIR names another): a virtual environment of the running
Python with SGLang and its heavy, tightly pinned dependencies, which therefore never meet the user's.

Invariants:
- an environment counts as installed only when its marker file is there, and the marker is written last;
- an interrupted installation is redone from the start (pip's own cache keeps the downloads), because pip killed
  between two files can leave a package that looks installed;
- two installations of the same directory never run at once; the second waits, then finds the work done;
- nothing is ever deleted from a directory that this module did not make;
- it names no package host: pip's own configuration decides where packages come from.

On a machine without a GPU every package is pinned in `requirements-cpu.txt` and installed without resolving, which
is what keeps the CUDA packages away that `sglang` asks for. With a GPU it is the ordinary `sglang` package.
Knows nothing of servers or models.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import platformdirs
from anyio.streams.text import TextReceiveStream

from runtime.engine.base import EngineUnavailable
from workspace import NOT_JSON

__all__ = ["Environment", "Kind", "Progress", "Status", "detect", "install", "locate", "status"]

Progress = Callable[[str], None]  # called with one line for a person, often; must not block

SGLANG = "0.5.21"  # what the client, the flags and the stand-ins are written against and tested with
REQUIREMENTS = Path(__file__).with_name("requirements-cpu.txt")
MARKER = "ramet-engine.json"
NEEDED_BYTES = 6_000_000_000  # 2.7 GB installed, about 1 GB of downloads in pip's cache, and air
LOCK_POLL_S = 0.5
ERROR_LINES = 15  # how much of pip's output an error carries


class Kind(enum.StrEnum):
    """Which build of the engine."""

    CPU = "cpu"
    GPU = "gpu"


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment that has SGLang in it."""

    directory: Path
    kind: Kind

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.directory / "bin" / "python"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `ramet engine status` shows. `made_here` is false for an environment that the user made by hand."""

    directory: Path
    kind: Kind
    sglang: str
    installed: bool
    made_here: bool


class _Marker(msgspec.Struct, frozen=True, kw_only=True):
    sglang: str
    kind: Kind
    python: str
    requirements: str


def detect() -> Kind:
    """GPU if the machine shows an NVIDIA device, else CPU. Looks; starts nothing."""
    return Kind.GPU if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") else Kind.CPU


def directory(kind: Kind | None = None) -> Path:
    """Where the environment is or would be: RAMET_ENGINE_DIR, or a name of its own for every set of requirements."""
    if chosen := os.environ.get("RAMET_ENGINE_DIR"):
        return Path(chosen).expanduser().absolute()
    wanted = _wanted(kind or detect())
    name = f"sglang-{wanted.sglang}-{wanted.kind}-py{wanted.python}-{wanted.requirements}"
    return platformdirs.user_cache_path("ramet") / "engine" / name


def status() -> Status:
    """What is there now."""
    kind = detect()
    where = directory(kind)
    made_here = _marker(where) == _wanted(kind)
    return Status(
        directory=where,
        kind=kind,
        sglang=SGLANG,
        installed=made_here or _made_by_hand(where),
        made_here=made_here,
    )


def locate() -> Environment:
    """The installed environment. Raises EngineUnavailable, which says how to install it."""
    now = status()
    if not now.installed:
        raise EngineUnavailable(f"no SGLang in {now.directory}: run `ramet engine install`")
    return Environment(directory=now.directory, kind=now.kind)


async def install(progress: Progress | None = None) -> Environment:
    """Install the environment if it is not there; minutes, and gigabytes, the first time.

    Safe to interrupt and to run twice at once. Raises EngineUnavailable with the end of pip's output when it
    fails. On cancellation pip is killed and the next call starts over.
    """
    report = progress or (lambda _line: None)
    kind = detect()
    where = directory(kind)
    where.parent.mkdir(parents=True, exist_ok=True)
    async with _lock(where.with_name(where.name + ".lock"), report) as lock:
        if _marker(where) == _wanted(kind) or _made_by_hand(where):
            return Environment(directory=where, kind=kind)
        ours = where.with_name(where.name + ".unfinished")
        if where.exists() and any(where.iterdir()) and not ours.exists() and _marker(where) is None:
            raise EngineUnavailable(f"{where} is not empty, and ramet did not make it: it is left alone")
        if (free := shutil.disk_usage(where.parent).free) < NEEDED_BYTES:
            needed = NEEDED_BYTES / 1e9
            raise EngineUnavailable(f"{where.parent} has {free / 1e9:.1f} GB free; about {needed:.0f} GB are needed")
        ours.touch()
        await _build(Environment(directory=where, kind=kind), report, lock)
        _write_marker(where, _wanted(kind))
        ours.unlink()
    report(f"SGLang {SGLANG} ({kind}) is in {where}")
    return Environment(directory=where, kind=kind)


async def _build(environment: Environment, report: Progress, lock: int) -> None:
    where, python = environment.directory, str(environment.python)
    report(f"making {where}")
    await _run([sys.executable, "-m", "venv", "--clear", str(where)], lock, lambda _line: None)
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--progress-bar", "off", "--no-compile"]
    if environment.kind is Kind.CPU:
        total = sum(1 for _ in _requirements())
        counter = _Counter(report, total)
        await _run([*pip, "--no-deps", "--requirement", str(REQUIREMENTS)], lock, counter)
    else:
        await _run([*pip, f"sglang=={SGLANG}"], lock, _Counter(report, None))
    # pip compiles with one process; on two cores this halves the longest step. Tests that packages ship are left out.
    report("compiling (a minute)")
    site = where / "lib"
    await _run([python, "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", str(site)], lock, report, check=False)
    report("checking")
    check = "import torch, torchvision, transformers, triton, xgrammar, sglang.srt.server_args"
    await _run([python, "-c", check], lock, lambda _line: None, environ=variables(environment))


def variables(environment: Environment) -> dict[str, str]:
    """The environment variables for a process in this environment: ours without the user's Python settings.

    The CPU engine finds its stand-ins (`standins/`) first on its path, and so does every process it spawns.
    """
    out = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    out.pop("VIRTUAL_ENV", None)
    if environment.kind is Kind.CPU:
        out["PYTHONPATH"] = str(Path(__file__).with_name("standins"))
        out["SGLANG_USE_CPU_ENGINE"] = "1"
        # By default OpenMP's threads spin while they wait for each other, and on few cores take them from the very
        # thread they wait for: two busy cores, tiny model, 20 tokens a second spinning and 180 sleeping.
        out.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return out


class _Counter:
    """Turns pip's output into progress: which package, and how many of them."""

    def __init__(self, report: Progress, total: int | None) -> None:
        self.report, self.total, self.seen = report, total, 0

    def __call__(self, line: str) -> None:
        text = line.strip()
        if text.startswith("Collecting "):
            self.seen += 1
            of = f"/{self.total}" if self.total else ""
            self.report(f"{self.seen}{of} {text.split()[1]}")
        elif found := re.match(r"Downloading (\S+) \((.+)\)", text):
            name = found[1].rpartition("/")[2]
            self.report(f"downloading {name} ({found[2]})")
        elif text.startswith("Installing collected"):
            self.report("unpacking (half a minute)")


async def _run(
    command: list[str],
    lock: int,
    each_line: Callable[[str], None],
    *,
    check: bool = True,
    environ: dict[str, str] | None = None,
) -> None:
    """Run a command, show its lines, and raise EngineUnavailable with the last of them if it fails.

    The command inherits the lock, so that even when this process is killed no second installation starts
    while the first one's pip is still writing.
    """
    lines: list[str] = []
    clean = environ or {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    async with await anyio.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env=clean,
        start_new_session=True,  # Ctrl-C reaches us alone; we then end it in order
        pass_fds=(lock,),
    ) as process:
        assert process.stdout is not None
        rest = ""
        try:
            async for chunk in TextReceiveStream(process.stdout, errors="replace"):
                *whole, rest = (rest + chunk).split("\n")
                for line in whole:
                    each_line(line)
                lines = [*lines, *whole][-ERROR_LINES:]
            await process.wait()
        except BaseException:  # cancelled: what the command has started itself (venv starts pip) must go as well
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if check and process.returncode != 0:
        shown = "\n".join([*lines, rest]).strip()
        raise EngineUnavailable(f"{' '.join(command[:4])} ... ended with {process.returncode}:\n{shown}")


@asynccontextmanager
async def _lock(path: Path, report: Progress) -> AsyncIterator[int]:
    """Hold an exclusive lock on `path`, waiting for it by polling, which unlike a thread can be cancelled."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        waiting = False
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if not waiting:
                report("waiting for another installation to end")
                waiting = True
            await anyio.sleep(LOCK_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _requirements() -> Iterator[str]:
    for line in REQUIREMENTS.read_text().splitlines():
        if (text := line.partition("#")[0].strip()) != "":
            yield text


def _wanted(kind: Kind) -> _Marker:
    pins = "\n".join(_requirements()) if kind is Kind.CPU else f"sglang=={SGLANG}"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(pins.encode()).hexdigest()[:8]
    return _Marker(sglang=SGLANG, kind=kind, python=python, requirements=digest)


def _marker(where: Path) -> _Marker | None:
    try:
        return msgspec.json.decode((where / MARKER).read_bytes(), type=_Marker)
    except (OSError, *NOT_JSON):
        return None


def _write_marker(where: Path, marker: _Marker) -> None:
    new = where / (MARKER + ".new")
    with open(new, "wb") as file:
        file.write(msgspec.json.encode(marker))
        file.flush()
        os.fsync(file.fileno())
    new.replace(where / MARKER)


def _made_by_hand(where: Path) -> bool:
    """Whether the user chose this directory and has put SGLang there; then it is used as it is, and never written."""
    if "RAMET_ENGINE_DIR" not in os.environ or where.with_name(where.name + ".unfinished").exists():
        return False
    return (where / "bin" / "python").exists() and any(where.glob("lib/python3.*/site-packages/sglang"))
