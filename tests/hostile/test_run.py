"""A whole run by a hostile model: what is on disk and on the screen afterwards."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.host import Outcome
from runtime.swarm import Swarm
from runtime.view import Events
from tests.hostile.ground import SECRET, Ground
from tests.support import call, scripted
from workspace import Sandbox

CONTROL = re.compile(b"[\x00-\x08\x0b-\x1f\x7f]")
BOMB = "b() { [ $1 -gt 0 ] && { b $(($1 - 1)) & b $(($1 - 1)) & sleep 98765; }; }; b %d & "


@pytest.mark.anyio
async def test_secrets_are_nowhere_in_a_run(tmp_path: Path) -> None:
    """A model asks for its environment in every way it has; no file of the run holds a secret, nor a control
    character in what people read; the run ends with its result."""
    assert (await Sandbox(tmp_path).probe()).works
    said = [
        call("shell", command="env; cat /proc/*/environ; echo '\x1b[2J'"),
        call("read_file", path="/proc/self/environ"),
        call("write_file", path="x\x1b]0;t\x07", text="\x1b[2J"),
        call("list_files"),
        '<tool_call>{"name": "calc", "arguments": {"expression": ' + "[" * 1500 + "}}</tool_call>",
        '<tool_call>{"name": "calc", "arguments": {"expression": ' + "9" * 4500 + "}}</tool_call>",
        '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>',
        call("send", to="human", subject="x\nFrom: ramet", body="\x1b[2J"),
        call("calc", expression="round(1, 99999999)"),
        call("finish", result="done \x1b[2J"),
    ]
    engine = scripted(lambda text: said[text.count("<|im_start|>assistant") - 1])
    screen = io.StringIO()
    view = Events(screen)
    async with Swarm(engine, tmp_path, observers=[view.observe]) as swarm:
        view.begin(swarm.state, swarm.layout.root, resumed=False)
        result = await (await swarm.start("t")).result()
    assert result.outcome is Outcome.FINISHED
    files = [path for path in (tmp_path / ".ramet").rglob("*") if path.is_file()]
    assert len(files) > 4
    for path in files:
        data = path.read_bytes()
        assert SECRET.encode() not in data, path
        assert not CONTROL.search(data), path
    assert SECRET not in screen.getvalue()


@pytest.mark.anyio
async def test_a_bomb_is_gone_when_its_time_is_up(sandboxed: Ground) -> None:
    """A tree of processes that doubles seven times, and would sleep for a day, leaves none of them behind."""
    reply = await sandboxed.attempt(
        "shell", command=BOMB % 3 + "sleep 1; cat /proc/*/comm | grep -c sleep", timeout_s=20
    )
    assert int(reply.text.splitlines()[-1]) >= 7  # they were there
    for depth in (3, 5, 7):
        reply = await sandboxed.attempt("shell", command=BOMB % depth + "sleep 98765", timeout_s=1.0)
        assert "stopped after" in reply.note
        sandboxed.assert_intact()


def test_a_fork_bomb_of_an_ordinary_user_meets_the_limit(tmp_path: Path) -> None:
    """The real one: the kernel refuses processes at the limit, and all of them are gone at the timeout."""
    if os.getuid() == 0:
        can = subprocess.run(_as_nobody(["true"]), check=False, capture_output=True, cwd="/")
        if can.returncode:
            pytest.skip("no other user can be had here")
    place = tmp_path / "bombed"
    place.mkdir()
    for path in (place, tmp_path, *tmp_path.parents[:2]):
        path.chmod(path.stat().st_mode | (0o777 if path == place else 0o011))
    program = (
        "import anyio, sys\n"
        "from pathlib import Path\n"
        "from workspace import Limits, Sandbox\n"
        "here = Path(sys.argv[1])\n"
        "box = Sandbox(here, limits=Limits(processes=60))\n"
        "run = lambda: box.run(':(){ :|:& };: ; sleep 98765', timeout_s=1.0, output_path=here / 'out')\n"
        "async def main():\n"
        "    print((await box.probe()).reason or 'works')\n"
        "    print(await run())\n"
        "anyio.run(main)\n"
    )
    line = _as_nobody([sys.executable, "-B", "-c", program, str(place)])
    root = Path(__file__).parents[2]
    began = time.monotonic()
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    if "Permission denied" in done.stderr or "works" not in done.stdout:
        pytest.skip(f"another user cannot run this here: {(done.stderr or done.stdout).strip().splitlines()[-1][:200]}")
    assert "Resource temporarily unavailable" in done.stdout
    assert time.monotonic() - began < 30
    ps = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "98765" not in ps.stdout


def _as_nobody(line: list[str]) -> list[str]:
    if os.getuid():
        return line
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *line]
