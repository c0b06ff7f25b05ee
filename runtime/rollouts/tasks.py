"""What rollouts are made of: tasks, from a file, a folder, a Python object or the demo's stories.

Owns the form of a task and how one is read and laid out in a directory. Invariants: a task that cannot be used becomes
one line that names the file and the field, and the others go on; ids are unique; a task's files stay below the
directory that they are laid out in, and none of them replaces what is there already. Knows no engine.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

import msgspec

from runtime.recorder import Observer
from runtime.records import Settings
from runtime.rollouts.images import Image
from runtime.rollouts.reward import Command, Function, Reward
from runtime.rollouts.schema import Rollout
from workspace import NOT_JSON, RAMET, System

__all__ = ["ORDER", "Midway", "Piece", "Task", "TaskRefused", "lay_out", "load_tasks", "settings_for", "story_task"]

STORIES = ("survey", "onboarding", "detour", "review")  # those of runtime.demo, which is imported when one is asked for
_STORY = re.compile(r"story:(\w+)(?::(\d+))?(?::(\d+))?")
_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# A key of `Head.info` where tasks are attempted one after the other: in which order.
ORDER = "order"
_OWN = "task"  # of the reward that comes with a task


class TaskRefused(ValueError):
    """A task that cannot be used. One line, which names the file and the field."""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that were sampled at one go: from where on, by which weights, and how that ended."""

    start: int
    logprobs: tuple[float, ...]
    finish: str
    version: str = ""
    cached: int = 0


class Midway(msgspec.Struct, frozen=True, kw_only=True):
    """The first turns of the root of another attempt, `rollout`, which are given back before anything is sampled.

    `tokens` are its context up to there, of which `pieces` were sampled. `alone`: from there on nobody else can be
    started. `first`: the number of the first attempt that goes on from here.
    """

    rollout: str
    tokens: tuple[int, ...]
    pieces: tuple[Piece, ...]
    alone: bool = False
    first: int = 0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What one root agent is asked, and where.

    `files` are texts by path, `directory` is copied; both are there when an attempt begins. With an `image`, commands
    run on that, and what lies in its working directory is there too. Attempts are compared within a `group`, by default
    the task's id. `settings` are fields of Settings in which the task differs from its collection; `seconds` is a limit
    of its own. `user` is a prompt for a simulated user, whom the agent can write to. `rewards` are the task's own
    terms; `observe` makes an observer of a run in the directory it is given. An attempt begins anew, or goes on from
    the middle of another, `after`. `tools` are the names of those that it may use, where that is not all; `dropped`
    says why its attempts are not to be trained on.
    """

    id: str
    prompt: str
    files: Mapping[str, str] = {}
    directory: Path | None = None
    left_out: tuple[str, ...] = ()  # names at the top of `directory` that are not copied
    image: Image | None = None
    group: str = ""
    settings: Mapping[str, Any] = {}
    seconds: float | None = None
    user: str = ""
    rewards: tuple[Reward, ...] = ()
    observe: Callable[[Path], Observer] | None = None
    info: Mapping[str, str] = {}
    after: Midway | None = None
    tools: tuple[str, ...] | None = None
    dropped: str = ""


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task of a JSON lines file. `answer`: the one right result; `check`: a command that must pass afterwards."""

    prompt: str
    id: str = ""
    files: dict[str, str] = {}
    directory: str = ""
    group: str = ""
    settings: dict[str, Any] = {}
    seconds: float | None = None
    user: str = ""
    answer: str | None = None
    check: str = ""
    info: dict[str, str] = {}


def load_tasks(source: str, *, seed: int = 0, without_image: bool = False) -> tuple[list[Task], list[str]]:
    """The tasks that `source` names, and a line for each that cannot be used.

    `source`: a JSON lines file; a Harbor task folder, or a folder of them; `story:NAME[:COUNT[:FILES]]`, made from
    `seed` on; or `module:object`, a Task, several, or a function that returns them. Reads files, and imports the
    module. Raises nothing for bad input: where nothing can be used, there are no tasks and at least one line.
    """
    problems: list[str] = []
    tasks: list[Task] = []
    names: Counter[str] = Counter()
    try:
        found: Iterator[Task | str] = _found(source, seed, without_image)
        for one in found:
            if isinstance(one, str):
                problems.append(one)
                continue
            names[one.id] += 1
            if names[one.id] > 1:
                problems.append(f"{source}: id: {one.id!r} is there twice; the first is taken")
            else:
                tasks.append(one)
    except TaskRefused as refusal:
        problems.append(str(refusal))
    if not tasks and not problems:
        problems.append(f"{source}: there are no tasks in it")
    return tasks, problems


def story_task(story: str, seed: int, *, files: int | None = None, split: Any = "train", observed: bool = True) -> Task:
    """One of the demo's stories as a task, made from a seed, graded by the right answer.

    In a review somebody corrects a file while it goes on, which is part of the story; `observed` false leaves it out.
    """
    from runtime.demo import Story, check, corrector, make_story, settings_of

    survey = make_story(Random(seed), Story(story), files, split=split)

    def correct(rollout: Rollout, directory: Path) -> bool:
        return check(survey, rollout.head.result)

    base, own = (msgspec.structs.asdict(one) for one in (Settings(), settings_of(Story(story))))
    return Task(
        id=f"{story}-{seed}" if files is None else f"{story}-{seed}-{files}",
        prompt=survey.question,
        files=survey.files | survey.trail,
        settings={name: new for name, new in own.items() if new != base[name]},
        rewards=(Function("correct", correct),),
        observe=(lambda directory: corrector(survey, directory)) if observed and survey.corrected else None,
        info={"answer": survey.answer},
    )


def settings_for(task: Task, base: Settings) -> Settings:
    """What the task is run with."""
    settings = msgspec.structs.replace(base, **task.settings)
    if task.seconds is None:
        return settings
    limits = [one for one in (settings.budget.seconds, task.seconds) if one is not None]
    return msgspec.structs.replace(settings, budget=msgspec.structs.replace(settings.budget, seconds=min(limits)))


def lay_out(task: Task, directory: Path, system: System | None = None) -> None:
    """Put the task's files into `directory`, made if missing; what is there already stays as it is.

    With the `system` of its image, what lies in the working directory there comes last. Blocks. Raises OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if task.directory is not None:
        _copy(task.directory, directory, {*task.left_out, RAMET})
    for path, text in task.files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), target.open("x", encoding="utf-8") as file:
            file.write(text)
    if system is not None and (inside := system.root / system.workdir.relative_to("/")).is_dir():
        _copy(inside, directory, {RAMET})


def _copy(source: Path, target: Path, left_out: set[str]) -> None:
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if entry.name in left_out:
            continue
        if entry.is_dir() and not entry.is_symlink():
            there.mkdir(exist_ok=True)
            _copy(entry, there, set())
        elif not there.exists() and not there.is_symlink():
            shutil.copy2(entry, there, follow_symlinks=False)


def _found(source: str, seed: int, without_image: bool) -> Iterator[Task | str]:
    path = Path(source)
    if source.startswith("story:"):
        return iter(_stories(source, seed))
    if path.is_dir():
        return _folders(path, without_image)
    if path.is_file():
        return _lines(path)
    if _OBJECT.fullmatch(source):
        return _objects(source)
    raise TaskRefused(f"{source}: no such file or folder, and neither story:NAME nor module:object")


def _stories(source: str, seed: int) -> list[Task]:
    match = _STORY.fullmatch(source)
    if match is None or match[1] not in STORIES:
        raise TaskRefused(f"{source}: not story:NAME[:COUNT[:FILES]] with NAME one of {', '.join(STORIES)}")
    files = int(match[3]) if match[3] else None
    if files is not None and not 2 <= files <= 12:
        raise TaskRefused(f"{source}: FILES: a story has 2 to 12 files, not {files}")
    return [story_task(match[1], seed + number, files=files) for number in range(int(match[2] or 1))]


def _folders(path: Path, without_image: bool) -> Iterator[Task | str]:
    from runtime.rollouts.harbor import TASK_FILE, read_harbor

    alone = (path / TASK_FILE).exists()
    for folder in [path] if alone else sorted(one for one in path.iterdir() if one.is_dir() and one.name[0] != "."):
        try:
            yield read_harbor(folder, without_image=without_image)
        except TaskRefused as refusal:
            yield str(refusal)


def _lines(path: Path) -> Iterator[Task | str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield _task(msgspec.json.decode(line, type=_Line), path, number)
            except NOT_JSON as error:
                yield f"{path}:{number}: {error}"
            except TaskRefused as refusal:
                yield f"{path}:{number}: {refusal}"


def _task(line: _Line, path: Path, number: int) -> Task:
    if not line.prompt.strip():
        raise TaskRefused("prompt: the text is empty")
    for name in line.files:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or parts[0] == RAMET or "\0" in name:
            raise TaskRefused(f"files: {name!r} is no path below the task's directory")
    directory = path.parent / line.directory if line.directory else None
    if directory is not None and not directory.is_dir():
        raise TaskRefused(f"directory: no such directory: {directory}")
    if line.seconds is not None and not 0 < line.seconds < float("inf"):
        raise TaskRefused(f"seconds: must be positive, not {line.seconds}")
    rewards: list[Reward] = []
    if line.answer is not None:
        rewards.append(_answer(line.answer))
    if line.check:
        rewards.append(Command("check", line.check))
    return Task(
        id=line.id or f"{path.stem}-{number}",
        prompt=line.prompt,
        files=line.files,
        directory=directory,
        group=line.group,
        settings=_settings(line.settings),
        seconds=line.seconds,
        user=line.user,
        rewards=tuple(rewards),
        info=line.info,
    )


def _answer(answer: str) -> Function:
    return Function("correct", lambda rollout, directory: rollout.head.result.strip() == answer.strip())


def _settings(given: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        read = msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        raise TaskRefused(f"settings: {error}") from error
    return {name: getattr(read, name) for name in given}


def _objects(source: str) -> Iterator[Task | str]:
    module, _, name = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if callable(found) and not isinstance(found, Iterable):
            found = found()
    except (ImportError, AttributeError) as error:
        raise TaskRefused(f"{source}: cannot be imported: {error}") from error
    tasks: Sequence[Any] = [found] if isinstance(found, Task) else list(found) if isinstance(found, Iterable) else []
    for number, task in enumerate(tasks):
        yield task if isinstance(task, Task) else f"{source}: number {number} is no Task but a {type(task).__name__}"
