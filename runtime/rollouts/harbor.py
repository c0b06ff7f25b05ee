"""Harbor task folders: read as tasks, and graded by their own tests.

    <folder>/task.toml  instruction.md  environment/  tests/test.sh  (solution/ is never read)

Owns what a folder means here. Where Harbor starts a container, this makes its image a system of our own sandbox (see
`images`), if docker or podman works here:

- what lies in the image's working directory becomes the attempt's files, at the same path; commands start there, and
  find the image's environment and `[environment] env`. A `docker_image` without a Dockerfile also has the files of
  `environment/` there, as in Harbor;
- all else in the image is read-only, and `/tmp` private to each command: what agents install outside the working
  directory does not last. There is no network, HOME is `/tmp`, commands run as whoever runs ramet, and nothing is
  started: no entry point, no service.

Where no image can be made, a folder that can do without one is taken on the machine's own system, with the files of
`environment/` in the working directory: one that names no image, or whose Dockerfile only names one and copies files.
Others are refused with a line, unless they are asked for without; so are those that need a network, a GPU, other
services, tests in a container of their own, or variables from whoever runs ramet: none of these gets into a sandbox.
Tasks of several steps are always refused. Harbor gives a network to who says nothing of one; here that is taken as
needing none. What else a folder says and is not applied, `Task.info` names under `not_applied`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from runtime.rollouts.harbor_tests import SCRIPT, VERIFIER_S, HarborTests
from runtime.rollouts.images import BUILD_S, Image, NoBuilder, builder
from runtime.rollouts.tasks import Task, TaskRefused

__all__ = ["TASK_FILE", "HarborTests", "read_harbor"]

TASK_FILE = "task.toml"
_DOCKERFILE = Path("environment", "Dockerfile")
_COMPOSE = ("docker-compose.yaml", "docker-compose.yml")
_IMAGE_FILES = ("Dockerfile", *_COMPOSE, ".dockerignore")
# What a Dockerfile may say without making a difference to us: the files are copied, the rest is about starting.
_PLAIN = frozenset({"FROM", "WORKDIR", "COPY", "CMD", "ENTRYPOINT", "LABEL", "MAINTAINER", "EXPOSE", "SHELL"})
_IMAGE_NAME = re.compile(r"[A-Za-z0-9][\w./:@-]*", re.ASCII)
_TEMPLATE = re.compile(r"\$\{[^}:]+(?::-(.*))?\}")
# Marks in benchmarks that must not be trained on; Harbor shows them to no agent.
_CANARY = re.compile(r"(?:<!--.*canary.*-->|#.*canary.*)", re.IGNORECASE)


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What each of the environment, the agent and the verifier can say of the network."""

    network_mode: str | None = None
    allowed_hosts: list[str] = []


class _Verifier(_Phase, frozen=True):
    timeout_sec: float = VERIFIER_S
    env: dict[str, str] = {}
    user: str | int | None = None
    environment_mode: str | None = None
    environment: Any = None
    collect: list[Any] = []


class _Agent(_Phase, frozen=True):
    timeout_sec: float | None = None
    user: str | int | None = None


class _Environment(_Phase, frozen=True):
    docker_image: str | None = None
    build_timeout_sec: float = BUILD_S
    workdir: str | None = None
    env: dict[str, str] = {}
    os: str = "linux"
    allow_internet: bool | None = None
    gpus: int = 0
    tpu: Any = None
    mcp_servers: list[Any] = []
    healthcheck: Any = None
    skills_dir: str | None = None
    cpus: float | None = None
    memory_mb: float | None = None
    storage_mb: float | None = None
    # The older forms of these two, with a unit.
    memory: str | None = None
    storage: str | None = None


class _Toml(msgspec.Struct, frozen=True):
    """What of `task.toml` is used, or said not to be; the rest is left alone."""

    task: _Named = _Named()
    verifier: _Verifier = _Verifier()
    agent: _Agent = _Agent()
    environment: _Environment = _Environment()
    steps: list[Any] = []
    artifacts: list[Any] = []


def read_harbor(folder: Path, *, without_image: bool = False) -> Task:
    """The task that a folder holds. Blocks: it may ask docker whether it is there. Raises TaskRefused, in one line.

    `without_image`: take it on the machine's own system; what it needs and cannot have is then missing.
    """
    toml = _toml(folder / TASK_FILE)
    if toml.steps or (folder / "steps").is_dir():
        raise TaskRefused(f"{folder / TASK_FILE}: steps: multi-step tasks are not supported")
    prompt = _prompt(folder / "instruction.md")
    script = folder / "tests" / SCRIPT
    if not script.is_file():
        raise TaskRefused(f"{script}: there is no such file, so nothing says what an attempt is worth")
    missing: list[str] = []
    for field, problem in _needs(toml, folder):
        if not without_image:
            raise TaskRefused(f"{_named(folder, field)}{problem}; --without-image takes it all the same")
        missing.append(field)
    image = None if without_image else _image(toml, folder)
    ignored = [*missing, *_ignored(toml, image)]
    environment = folder / "environment"
    in_image = image is not None and (folder / _DOCKERFILE).exists()
    info = {"harbor": folder.name}
    if image is not None:
        info["image"] = image.name or str(_DOCKERFILE)
    if ignored:
        info["not_applied"] = ", ".join(dict.fromkeys(ignored))
    tests = HarborTests(
        folder / "tests",
        timeout_s=toml.verifier.timeout_sec,
        env=_plain(toml.environment.env) | _plain(toml.verifier.env),
        image=image is not None,
    )
    return Task(
        id=toml.task.name or folder.name,
        prompt=prompt,
        directory=environment if environment.is_dir() and not in_image else None,
        left_out=_IMAGE_FILES,
        image=image,
        seconds=toml.agent.timeout_sec,
        rewards=(tests,),
        info=info,
    )


def _toml(path: Path) -> _Toml:
    try:
        with path.open("rb") as file:
            return msgspec.convert(tomllib.load(file), _Toml)
    except FileNotFoundError:
        raise TaskRefused(f"{path}: there is no such file, so {path.parent} is no Harbor task") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskRefused(f"{path}: cannot be read: {_why(error)}") from error
    except msgspec.ValidationError as error:
        raise TaskRefused(f"{path}: {error}") from error


def _prompt(path: Path) -> str:
    try:
        lines = path.read_text("utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise TaskRefused(f"{path}: cannot be read: {_why(error)}") from error
    marked = [number for number, line in enumerate(lines) if _CANARY.fullmatch(line.strip())]
    begin = 0
    for number, line in enumerate(lines):
        if line.strip() and number not in marked:
            break
        begin = number + 1
    prompt = "".join(lines[begin:] if marked and marked[0] < begin else lines)
    if not prompt.strip():
        raise TaskRefused(f"{path}: the file is empty; it should hold the task")
    return prompt


def _image(toml: _Toml, folder: Path) -> Image | None:
    """The image that the folder names, or has a Dockerfile for; None where there is none, or it can do without."""
    said = toml.environment
    if not said.docker_image and not (folder / _DOCKERFILE).exists():
        return None
    if said.docker_image and not _IMAGE_NAME.fullmatch(said.docker_image):
        raise TaskRefused(f"{folder / TASK_FILE}: environment.docker_image: no image's name: {said.docker_image!r}")
    if not said.build_timeout_sec > 0:
        raise TaskRefused(f"{folder / TASK_FILE}: environment.build_timeout_sec: must be positive")
    named = f"{folder / TASK_FILE}: environment.docker_image" if said.docker_image else str(folder / _DOCKERFILE)
    try:
        builder()
    except NoBuilder as problem:
        if not (need := _does_more(toml, folder)):
            return None
        raise TaskRefused(
            f"{_named(folder, need)} needs a container image, and {problem}; --without-image takes it all the same"
        ) from problem
    return Image(
        source=named,
        context=None if said.docker_image else (folder / _DOCKERFILE).parent.resolve(),
        name=said.docker_image or "",
        workdir=said.workdir or "",
        environment=tuple(_plain(said.env).items()),
        timeout_s=said.build_timeout_sec,
    )


def _does_more(toml: _Toml, folder: Path) -> str:
    """What of the folder makes an image necessary, "" where nothing does."""
    if toml.environment.docker_image:
        return "environment.docker_image"
    goes_on = False
    for number, line in enumerate((folder / _DOCKERFILE).read_text("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not goes_on and words and not line.lstrip().startswith("#") and words[0].upper() not in _PLAIN:
            return f"{_DOCKERFILE}:{number}: {words[0].upper()}"
        goes_on = line.rstrip().endswith("\\")
    return ""


def _needs(toml: _Toml, folder: Path) -> Iterator[tuple[str, str]]:
    """What the folder asks for and cannot have here, image or not, and why not."""
    said = toml.environment
    for name in _COMPOSE:
        if (folder / "environment" / name).exists():
            yield f"environment/{name}", " needs several containers, and ramet runs a task in one sandbox"
    if said.os.lower() != "linux":
        yield "environment.os", ": the sandbox is a Linux"
    if said.gpus:
        yield "environment.gpus", ": the sandbox has no GPU"
    if said.tpu:
        yield "environment.tpu", ": the sandbox has no TPU"
    if field := _needs_network(toml):
        yield field, ": the sandbox has no network"
    if said.mcp_servers:
        yield "environment.mcp_servers", ": agents have the tools of ramet, and no others"
    if toml.verifier.environment is not None or toml.verifier.environment_mode == "separate":
        yield "verifier.environment", ": the tests would run in a container of their own"
    for place, env in (("environment", said.env), ("verifier", toml.verifier.env)):
        for key, value in env.items():
            if (match := _TEMPLATE.fullmatch(value)) and match[1] is None:
                yield f"{place}.env.{key}", ": takes a variable of your environment, which no sandbox gets to see"


def _needs_network(toml: _Toml) -> str:
    """The field that asks for a network, "" where none does."""
    phases: dict[str, _Phase] = {"environment": toml.environment, "agent": toml.agent, "verifier": toml.verifier}
    for name, phase in phases.items():
        if phase.allowed_hosts:
            return f"{name}.allowed_hosts"
        if phase.network_mode not in (None, "no-network"):
            return f"{name}.network_mode"
    # An older form, which a mode overrules.
    if toml.environment.allow_internet and toml.environment.network_mode is None:
        return "environment.allow_internet"
    return ""


def _ignored(toml: _Toml, image: Image | None) -> Iterator[str]:
    """The names of what the folder says, or leaves at a default of Harbor's, and is not applied."""
    said = toml.environment
    if said.network_mode is None and said.allow_internet is None:
        yield "environment.network_mode"
    names = ["cpus", "memory_mb", "storage_mb", "memory", "storage", "healthcheck", "skills_dir"]
    names += [] if image is not None else ["workdir", "env"]
    yield from (f"environment.{name}" for name in names if getattr(said, name) not in (None, {}))
    yield from (f"{name}.user" for name in ("agent", "verifier") if getattr(toml, name).user is not None)
    if toml.verifier.collect:
        yield "verifier.collect"
    if toml.artifacts:
        yield "artifacts"


def _plain(env: Mapping[str, str]) -> dict[str, str]:
    """The variables whose values the folder itself holds: of `${NAME:-default}` always the default."""
    matched = {key: (value, _TEMPLATE.fullmatch(value)) for key, value in env.items()}
    return {
        key: value if match is None else match[1]
        for key, (value, match) in matched.items()
        if match is None or match[1] is not None
    }


def _named(folder: Path, field: str) -> str:
    """A file of the folder, or a field of its `task.toml`."""
    return str(folder / field) if field.startswith("environment/") else f"{folder / TASK_FILE}: {field}"


def _why(error: Exception) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else str(error)
