"""Commands that try to read, change, reach, keep or use what they may not."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

import pytest

from tests.hostile.corpus import Attack, attacks
from tests.hostile.ground import Ground, bounded

pytestmark = pytest.mark.anyio

GIT = "git configuration and hooks"
# These leave a project of their own behind: what they may do, delete it for instance, would spoil the next attack.
SPOIL = (GIT, "writing outside", "writing into .ramet")


@pytest.mark.parametrize("attack", attacks("shell"), ids=lambda attack: attack.kind)
async def test_a_command_gets_nowhere(sandboxed: Ground, attack: Attack, tmp_path: Path) -> None:
    """What it tries is refused, or ends at its limits; outside nothing is read, changed, reached or left running."""
    if attack.kind in SPOIL:
        sandboxed = Ground(tmp_path)
    if "syscall(" in attack.how and platform.machine() != "x86_64":
        pytest.skip("the numbers of the system calls are another machine's")
    command = sandboxed.filled(attack.how)
    with bounded(attack.timeout_s):
        reply = await sandboxed.attempt("shell", command=command, timeout_s=attack.timeout_s)
    assert re.search(attack.says, f"{reply.text}\n{reply.note}"), f"{command}\n{reply}"
    sandboxed.assert_intact()
    if attack.kind == GIT:
        _as_the_user("git", "status", ground=sandboxed)
        sandboxed.assert_intact()


def test_what_is_planted_would_work(ground: Ground) -> None:
    """The file that these attacks plant does make git run a command of theirs, where nobody takes it away."""
    planted = ground.project / ".git" / "commondir"
    planted.write_text("../evil\n")
    _as_the_user("git", "status", ground=ground)
    planted.unlink()
    assert ground.made.exists()
    ground.made.unlink()


def _as_the_user(*line: str, ground: Ground) -> None:
    """What a person does afterwards, outside: it may fail, but must run nothing of the model's."""
    subprocess.run(line, cwd=ground.project, capture_output=True, check=False, env={"PATH": os.environ["PATH"]})
