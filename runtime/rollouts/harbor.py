"""Harbor task folders: read as tasks, and graded by their own tests.

    <folder>/task.toml  instruction.md  environment/  tests/test.sh  (solution/ is never read)

Owns what a folder means here. Where Harbor builds a container, this runs on the machine's own system in our sandbox:

- the files of `environment/`, but for what builds an image, are laid out in the working directory, as they are;
- after the run, `tests/test.sh` runs in the working directory, which it also finds at `/app`; the folder's tests are at
  `/tests`, read-only, so nothing that an agent wrote can take their place; `/logs/verifier` is empty and writable; the
  environment holds `[verifier.env]`; there is no network;
- the reward is `reward.txt`, else `reward.json`: a number, or numbers by name, of which `reward` counts if it is
  there, else their mean. The exit code of `test.sh` counts nothing.

A folder that needs an image (`docker_image`, or a Dockerfile that does more than name one and copy files), a GPU or a
network is refused with a line, unless it is asked for without. Harbor gives a network to who says nothing of one; here
that is taken as needing none. Tasks of several steps are refused. Limits on processors, memory and storage are not
applied: `Task.info` names them under `not_applied`. Not read: the environment's variables, servers, skills and health
check, users, artifacts.
"""

from __future__ import annotations

import stat
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec

from runtime.rollouts.schema import Rollout, Term
from runtime.rollouts.tasks import Task, TaskRefused
from workspace import RAMET, Mount, Sandbox

__all__ = ["TASK_FILE", "HarborTests", "read_harbor"]

TASK_FILE = "task.toml"
TESTS = Path("tests", "test.sh")
VERIFIER_S = 600.0  # Harbor's own default
SHOWN_CHARS = 200
VERDICT_BYTES = 1 << 20  # nobody needs more for a few numbers
_IMAGE_FILES = ("Dockerfile", "docker-compose.yaml", "docker-compose.yml", ".dockerignore")
# What a Dockerfile may say without making a difference to us: the files are copied, the rest is about starting.
_PLAIN = frozenset({"FROM", "WORKDIR", "COPY", "CMD", "ENTRYPOINT", "LABEL", "MAINTAINER", "EXPOSE", "SHELL"})


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What each of the environment, the agent and the verifier can say of the network."""

    network_mode: str | None = None
    allowed_hosts: list[str] = []


class _Verifier(_Phase, frozen=True):
    timeout_sec: float = VERIFIER_S
    env: dict[str, str] = {}


class _Agent(_Phase, frozen=True):
    timeout_sec: float | None = None


class _Environment(_Phase, frozen=True):
    docker_image: str | None = None
    allow_internet: bool = False
    gpus: int = 0
    cpus: float | None = None
    memory_mb: float | None = None
    storage_mb: float | None = None
    # The older forms of these two, with a unit.
    memory: str | None = None
    storage: str | None = None


class _Toml(msgspec.Struct, frozen=True):
    """What of `task.toml` is used; the rest is left alone."""

    task: _Named = _Named()
    verifier: _Verifier = _Verifier()
    agent: _Agent = _Agent()
    environment: _Environment = _Environment()
    steps: list[Any] = []


def read_harbor(folder: Path, *, without_image: bool = False) -> Task:
    """The task that a folder holds. Blocks. Raises TaskRefused, in one line.

    `without_image`: take it where it is made for a container too; what that has, its network or GPU is then missing.
    """
    toml = _toml(folder / TASK_FILE)
    if toml.steps or (folder / "steps").is_dir():
        raise TaskRefused(f"{folder / TASK_FILE}: steps: multi-step tasks are not supported")
    try:
        prompt = (folder / "instruction.md").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskRefused(f"{folder / 'instruction.md'}: cannot be read: {_why(error)}") from error
    if not prompt.strip():
        raise TaskRefused(f"{folder / 'instruction.md'}: the file is empty; it should hold the task")
    if not (folder / TESTS).is_file():
        raise TaskRefused(f"{folder / TESTS}: there is no such file, so nothing says what an attempt is worth")
    environment = folder / "environment"
    if not without_image and (need := _need(toml, folder)):
        raise TaskRefused(f"{need}; --without-image takes it all the same")
    limits = _limits(toml.environment)
    return Task(
        id=toml.task.name or folder.name,
        prompt=prompt,
        directory=environment if environment.is_dir() else None,
        left_out=_IMAGE_FILES,
        seconds=toml.agent.timeout_sec,
        rewards=(HarborTests(folder / "tests", timeout_s=toml.verifier.timeout_sec, env=toml.verifier.env),),
        info={"harbor": folder.name, **({"not_applied": limits} if limits else {})},
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


def _need(toml: _Toml, folder: Path) -> str:
    """What the folder asks for and cannot have here, and why not; "" where there is nothing."""
    if image := _needs_image(toml, folder):
        return f"{image} needs a container image, and ramet runs a task on the machine's own system, in its sandbox"
    if toml.environment.gpus:
        return f"{folder / TASK_FILE}: environment.gpus: the sandbox has no GPU"
    if field := _needs_network(toml):
        return f"{folder / TASK_FILE}: {field}: the sandbox has no network"
    return ""


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


def _limits(environment: _Environment) -> str:
    """The names of the limits that the environment sets."""
    names = ("cpus", "memory_mb", "storage_mb", "memory", "storage")
    return ", ".join(f"environment.{name}" for name in names if getattr(environment, name) is not None)


def _needs_image(toml: _Toml, folder: Path) -> str:
    """What of the folder asks for an image, "" where nothing does."""
    if toml.environment.docker_image:
        return f"{folder / TASK_FILE}: environment.docker_image"
    for name in _IMAGE_FILES[1:3]:
        if (folder / "environment" / name).exists():
            return str(folder / "environment" / name)
    dockerfile = folder / "environment" / "Dockerfile"
    if not dockerfile.exists():
        return ""
    goes_on = False
    for number, line in enumerate(dockerfile.read_text("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not goes_on and words and not line.lstrip().startswith("#") and words[0].upper() not in _PLAIN:
            return f"{dockerfile}:{number}: {words[0].upper()}"
        goes_on = line.rstrip().endswith("\\")
    return ""


@dataclass(frozen=True)
class HarborTests:
    """The reward of a Harbor task: what its `test.sh` writes. Terms are shared by all."""

    tests: Path
    timeout_s: float = VERIFIER_S
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = "tests"
    weight: float = 1.0

    async def terms(self, rollout: Rollout, directory: Path) -> Sequence[Term]:
        """See Reward. Raises CommandRefused without a sandbox, TimeoutError, ValueError for any other verdict."""
        with (
            tempfile.TemporaryDirectory(prefix="ramet-verdict-") as verdict,
            tempfile.TemporaryDirectory(prefix="ramet-harbor-") as made,
        ):
            logs, output = Path(verdict), Path(made, "output.txt")
            sandbox = self._sandbox(directory, logs)
            done = await sandbox.run("bash /tests/test.sh", timeout_s=self.timeout_s, output_path=output)
            if done.timed_out:
                raise TimeoutError(f"test.sh did not end in {self.timeout_s:g} s")
            try:
                scores = await anyio.to_thread.run_sync(_verdict, logs)
            except FileNotFoundError:
                last = " ".join(done.output.split())[-SHOWN_CHARS:]
                raise ValueError(f"test.sh wrote no reward (exit code {done.exit_code}): {last}") from None
        root = rollout.head.members[0].id
        # Of several figures `reward` is the one that counts, the others are for whoever reads.
        counts = {"reward"} if "reward" in scores else set(scores)
        return [
            Term(
                name=self.name if name == "reward" else f"{self.name}.{name}",
                agent=root,
                score=value,
                weight=self.weight / len(counts) if name in counts else 0.0,
                shared=True,
            )
            for name, value in scores.items()
        ]

    def _sandbox(self, directory: Path, logs: Path) -> Sandbox:
        """One that has the tests, and an empty place for the verdict, where Harbor's scripts look for them."""
        directory = directory.resolve()
        record = directory / RAMET
        return Sandbox(
            directory,
            record=record if record.is_dir() else None,
            mounts=[
                Mount(source=directory, target=Path("/app"), writable=True),
                Mount(source=self.tests.resolve(), target=Path("/tests")),
                Mount(source=logs.resolve(), target=Path("/logs/verifier"), writable=True),
            ],
            environment=self.env,
        )


def _verdict(logs: Path) -> dict[str, float]:
    """What was written there. Raises FileNotFoundError, or ValueError, which names the file."""
    if said := _written(logs / "reward.txt").strip():
        try:
            return {"reward": float(said)}
        except ValueError:
            raise ValueError(f"reward.txt: no number: {said[:SHOWN_CHARS]!r}") from None
    if not (said := _written(logs / "reward.json").strip()):
        raise FileNotFoundError
    try:
        read = msgspec.json.decode(said, type=float | dict[str, float], strict=False)
    except msgspec.DecodeError as error:
        raise ValueError(f"reward.json: {error}") from error
    scores = read if isinstance(read, dict) else {"reward": read}
    if not scores:
        raise ValueError("reward.json: there is no number in it")
    return scores


def _written(path: Path) -> str:
    """A file's text, "" where there is none. What an agent made may run in the tests: no link of it is followed."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError(f"{path.name}: not a plain file")
        with path.open("rb") as file:
            return file.read(VERDICT_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _why(error: Exception) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else str(error)
