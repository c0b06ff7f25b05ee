"""`ramet doctor`: whether this machine has what ramet needs, and what to do where it has not.

Owns the checks. Invariants: it changes nothing; one check that fails does not keep the others from being made. The
modules of the upper floors are imported by the checks that need them: a foreign `agents` package breaks their import,
and is what a person then needs to be told.
"""

from __future__ import annotations

import enum
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from runtime.cli._options import Json

__all__ = ["Check", "Finding", "clash", "doctor"]

LEAST_PYTHON = (3, 11)
RUN_BYTES = 100_000_000  # a long run's journal and histories are tens of megabytes


class Finding(enum.StrEnum):
    """How bad it is: a failure keeps ramet from working, a warning takes something away."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, what was found, and what to do about it."""

    name: str
    finding: Finding
    found: str
    remedy: str = ""


def doctor(as_json: Json = False) -> int:
    """Check this machine: Python, packages, engine, images, sandbox, disk. Exits with 1 if something is missing."""
    failed = False
    for check in checks():
        failed |= check.finding is Finding.FAIL
        if as_json:
            print(msgspec.json.encode({"event": "check", **msgspec.structs.asdict(check)}).decode())
        else:
            remedy = f" -> {check.remedy}" if check.remedy else ""
            print(f"{check.finding:5} {check.name:12} {check.found}{remedy}", flush=True)
    return 1 if failed else 0


def checks() -> Iterator[Check]:
    """Every check, one after the other."""
    yield python()
    packages = clash(_distributions(), _origin("agents"), Path(__file__).parents[2])
    yield packages
    if packages.finding is not Finding.FAIL:
        yield from engine()
        yield seedling()
        yield images()
    yield sandbox()
    yield disk()


def python() -> Check:
    """The running interpreter."""
    version = sys.version.split()[0]
    if sys.version_info >= LEAST_PYTHON:
        return Check(name="python", finding=Finding.OK, found=version)
    least = ".".join(map(str, LEAST_PYTHON))
    return Check(name="python", finding=Finding.FAIL, found=version, remedy=f"ramet needs Python {least} or later")


def clash(distributions: set[str], agents: Path | None, ours: Path) -> Check:
    """Whether `agents` is our package. `openai-agents` installs one of the same name, into the same place. Pure."""
    remedy = "install ramet and openai-agents into different environments, then reinstall ramet"
    if agents is None or agents.parent.parent != ours:
        found = f"`agents` is imported from {agents or 'nowhere'}, not from {ours / 'agents'}"
        return Check(name="packages", finding=Finding.FAIL, found=found, remedy=remedy)
    if "openai-agents" in distributions:
        found = "openai-agents is installed here and has a package `agents` too"
        return Check(name="packages", finding=Finding.FAIL, found=found, remedy=remedy)
    return Check(name="packages", finding=Finding.OK, found=f"runtime, agents, workspace in {ours}")


def engine() -> Iterator[Check]:
    """The engine's environment, the place for it, and what it will run on."""
    from runtime.engine import environment

    now = environment.status()
    what = f"SGLang {now.sglang} ({now.kind}) in {now.directory}"
    if now.installed:
        yield Check(name="engine", finding=Finding.OK, found=what)
    else:
        remedy = "`ramet engine install`, or use a running server with --url"
        yield Check(name="engine", finding=Finding.WARN, found=f"no {what}", remedy=remedy)
        yield _room(_existing(now.directory), environment.NEEDED_BYTES)
    on = (
        "an NVIDIA GPU"
        if now.kind == "gpu"
        else "no NVIDIA GPU: models run on the CPU, which is enough for the seedling"
    )
    yield Check(name="device", finding=Finding.OK, found=on)


def _room(place: Path, needed: int) -> Check:
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        remedy = "set RAMET_ENGINE_DIR (or XDG_CACHE_HOME) to a directory that you may write"
        return Check(name="cache", finding=Finding.FAIL, found=f"{place} cannot be written", remedy=remedy)
    found = f"{free / 1e9:.1f} GB free in {place}"
    if free < needed:
        remedy = f"the engine needs {needed / 1e9:.0f} GB: make room, or set RAMET_ENGINE_DIR to another disk"
        return Check(name="cache", finding=Finding.WARN, found=found, remedy=remedy)
    return Check(name="cache", finding=Finding.OK, found=found)


def seedling() -> Check:
    """The packaged model."""
    from runtime.engine.server import SEEDLING

    if (SEEDLING / "config.json").is_file():
        return Check(name="seedling", finding=Finding.OK, found=str(SEEDLING))
    remedy = "reinstall ramet; until then name a --model or a --url"
    return Check(name="seedling", finding=Finding.WARN, found=f"not in {SEEDLING}", remedy=remedy)


def sandbox() -> Check:
    """Whether agents can run shell commands."""
    import anyio

    from workspace import Sandbox

    with tempfile.TemporaryDirectory(prefix="ramet-doctor-") as directory:
        probe = anyio.run(Sandbox(directory).probe)
    if probe.works:
        return Check(name="sandbox", finding=Finding.OK, found="bubblewrap works")
    remedy = "install bubblewrap (and allow user namespaces); without it the shell tool needs --unsandboxed"
    return Check(name="sandbox", finding=Finding.WARN, found=probe.reason, remedy=remedy)


def images() -> Check:
    """Whether container images can be made, and how many are kept."""
    from runtime.rollouts.images import NoBuilder, builder, images_directory

    kept = images_directory()
    try:
        found = f"{Path(builder()).name} works; {len(list(kept.glob('[!.]*')))} kept in {kept}"
    except NoBuilder as error:
        remedy = "start docker or install podman; without it Harbor tasks that need an image are left out"
        return Check(name="images", finding=Finding.WARN, found=str(error), remedy=remedy)
    return Check(name="images", finding=Finding.OK, found=found)


def disk() -> Check:
    """The place where a run started here would be written."""
    here = Path.cwd()
    if not os.access(here, os.W_OK):
        remedy = "start runs elsewhere, with --dir"
        return Check(name="directory", finding=Finding.WARN, found=f"{here} cannot be written", remedy=remedy)
    free = shutil.disk_usage(here).free
    found = f"{free / 1e9:.1f} GB free in {here}"
    if free < RUN_BYTES:
        return Check(name="directory", finding=Finding.FAIL, found=found, remedy="make room: a run is written here")
    return Check(name="directory", finding=Finding.OK, found=found)


def _distributions() -> set[str]:
    from importlib.metadata import distributions

    return {str(one.metadata["Name"]).lower().replace("_", "-") for one in distributions()}


def _origin(package: str) -> Path | None:
    from importlib.util import find_spec

    spec = find_spec(package)
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _existing(path: Path) -> Path:
    """The nearest directory above `path`, or itself, that exists."""
    found: Callable[[Path], bool] = Path.is_dir
    return next(place for place in (path, *path.parents) if found(place))
