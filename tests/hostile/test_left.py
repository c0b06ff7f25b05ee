"""What a model leaves behind, and what it changes while a tool looks: neither commands nor the runtime fall for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.corpus import PATH_TOOLS, Attack, attacks
from tests.hostile.ground import SECRET, Ground
from workspace import branches

pytestmark = pytest.mark.anyio

RACE_S = 0.15


@pytest.mark.parametrize("attack", attacks("left", "preloading and start-up files"), ids=lambda attack: attack.kind)
async def test_nothing_waits_for_the_next_command(sandboxed: Ground, tmp_path: Path, attack: Attack) -> None:
    """Whatever a command writes or exports, the next one and the runtime's own programs run as if it had not."""
    ground = Ground(tmp_path)
    ground.words["made"] = str(ground.made)
    await ground.attempt("shell", command=ground.filled(attack.how))
    reply = await ground.attempt("shell", command="echo clean; cat /tmp/left /dev/shm/left 2>/dev/null; pwd; umask")
    assert reply.text.splitlines() == ["clean", str(ground.project), "0022"]
    assert (await ground.attempt("search", pattern="pla.n", path="plain.txt")).text == "plain.txt:1: plain"
    branches.changes(branches.branch(ground.layout, "a1", ground.project))
    assert not ground.made.exists()


@pytest.mark.parametrize("attack", attacks("left", "git run by the runtime"), ids=lambda attack: attack.kind)
def test_no_configuration_is_run(tmp_path: Path, attack: Attack) -> None:
    """A repository that a model made and configured is copied, compared and removed, and nothing of it runs."""
    ground = Ground(tmp_path)
    ground.words["made"] = str(ground.made)
    project = ground.project
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    who = ["-c", "user.email=a@b", "-c", "user.name=a"]
    for line in (["add", "plain.txt"], [*who, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *line], cwd=project, check=True, env=environment, capture_output=True)
    with (project / ".git" / "config").open("a") as file:
        file.write(ground.filled(attack.how).replace("\\n", "\n").replace("\\t", "\t"))
    (project / ".gitattributes").write_text("* filter=x diff=x merge=x\n")
    for hooks in (project / "hooks", project / ".git" / "hooks"):
        hooks.mkdir(exist_ok=True)
        for name in ("post-checkout", "post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {ground.made}\n")
            (hooks / name).chmod(0o755)
    branch = branches.branch(ground.layout, "a1", project)
    (branch.directory / "plain.txt").write_text("changed\n")
    branches.changes(branch)
    branches.merge(branch, project)
    branches.remove(ground.layout, "a1")
    assert sorted(os.listdir(ground.outside)) == ["bin", "secret.txt"]


@pytest.mark.parametrize("tool", PATH_TOOLS)
@pytest.mark.parametrize("attack", attacks("left", "symlink races"), ids=lambda attack: attack.how)
async def test_what_changes_meanwhile_leads_nowhere(ground: Ground, attack: Attack, tool: str) -> None:
    """While another thread swaps directories, files and links, no tool reads or writes outside, not once."""
    arguments: dict[str, object] = {"write_file": {"text": "forged"}, "search": {"pattern": "."}}.get(tool, {})  # type: ignore[assignment]
    path = "race/secret.txt" if tool in ("read_file", "write_file") else "race"
    tried = 0
    with _swapping(ground, attack.how):
        until = time.monotonic() + RACE_S
        while time.monotonic() < until or not tried:
            reply = await ground.attempt(tool, path=path, **arguments)  # no answer holds the secret
            assert SECRET not in reply.text
            tried += 1
    ground.assert_intact()


@contextlib.contextmanager
def _swapping(ground: Ground, kind: str) -> Iterator[None]:
    """`race` is a directory of the project at one moment, and leads outside at the next."""
    project, over = ground.project, threading.Event()
    race, good, evil = project / "race", project / "race-good", project / "race-evil"
    for path in (race, good, evil):
        subprocess.run(["rm", "-rf", str(path)], check=True)
    good.mkdir()
    (good / "secret.txt").write_text("mine\n")
    evil.symlink_to(ground.outside)

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                match kind:
                    case "directory for a link" | "parent renamed":
                        good.rename(race)
                        race.rename(good)
                        evil.rename(race)
                        race.rename(evil)
                    case "link for a directory":
                        evil.rename(race)
                        race.rename(evil)
                        good.rename(race)
                        race.rename(good)
                    case _:
                        race.mkdir(exist_ok=True)
                        link = race / "new"
                        link.symlink_to(ground.outside / "secret.txt")
                        link.rename(race / "secret.txt")
                        link.write_text("mine\n")
                        link.rename(race / "secret.txt")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
