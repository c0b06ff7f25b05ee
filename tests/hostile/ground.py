"""A project under attack: real files, a real sandbox, secrets within reach, and canaries that tell what was touched.

Owns the set-up and the question afterwards. Tools run as an agent's do, by `agents.agent.carry_out`; the host here has
what these tools ask for, and it is real. Nothing else of a run is here: no engine, no model.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import resource
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.agent import carry_out
from agents.chat import Call
from agents.context import Origin, Segment
from agents.host import Agent, Reply
from agents.tools import TOOLS
from tests.hostile.corpus import swollen
from workspace import FileTree, Limits, RunLayout, Sandbox

SECRET = "canary-secret-5e1f"
"""In files, in the environment, in the user's keyring: whatever comes out must not hold it."""
MARK = "98765"
"""In the command line of what an attack leaves running."""
LIMITS = Limits(
    memory_bytes=512 << 20, cpu_s=20, file_bytes=4 << 20, processes=256, tmp_bytes=8 << 20, kept_bytes=4 << 20
)
# What an answer may be long: more than any tool gives, far less than any attack could make.
MOST_CHARS = 400_000
# What an attack may add to the memory of this process.
MOST_BYTES = 300 << 20
# How much longer than allowed an attack may take on a machine that does other things as well.
SLACK_S = 15.0
_ADD_KEY, _SESSION_KEYRING = 248, -3  # of x86-64
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_HOOK = "#!/bin/sh\ntouch {made}\n"


class Ground:
    """A project with a run in it, beside a directory that is nobody's business."""

    def __init__(self, home: Path) -> None:
        self.project, self.outside = home / "project", home / "outside"
        self.made = self.outside / "made"
        self.project.mkdir()
        self.outside.mkdir()
        (self.outside / "secret.txt").write_text(f"{SECRET}\n")
        (self.outside / "bin").mkdir()
        self.layout = RunLayout.create(self.project)
        self.layout.journal.write_text("{}\n")
        (self.layout.agents / "a1").mkdir()
        self._furnish()
        self.files_tree = FileTree.of_run(self.layout)
        self.shell = Sandbox.of_run(self.layout, limits=LIMITS)
        root = Segment(1, None, Origin.GIVEN, [])
        self.agent = Agent(id="a1", parent=None, task="t", depth=0, base=root, head=root)
        self.words = {
            "outside": str(self.outside), "project": str(self.project), "name": self.layout.run,
            "run": f".ramet/{self.layout.run}", "top": home.parts[2] if home.parts[1] == "tmp" else "tmp",
            "port": "1", "abstract": f"ramet-{home.name}", "key": str(_remembered_by_the_kernel()),
        }  # fmt: skip
        self._before = self.touched()

    # -- what a host does for these tools ---------------------------------------------------------------------

    @property
    def tools(self) -> Mapping[str, Any]:
        return TOOLS

    def files(self, _: Agent) -> FileTree:
        return self.files_tree

    def sandbox(self, _: Agent) -> Sandbox:
        return self.shell

    def output_path(self, agent: Agent) -> Path:
        return self.layout.output(agent.id, "call")

    def shown_path(self, path: Path) -> str:
        return self.layout.relative(path)

    def results_of(self, _: Agent, name: str) -> list[str] | None:
        return {"a2": ["12"], "results": ["12", "30"]}.get(name)

    def lines_of(self, _: Agent) -> list[str]:
        return ["a2: 12", "a3: 30"]

    async def call_started(self, agent: Agent, index: int, name: str, *, effects: bool) -> None:
        agent.started = {}

    async def call_ended(self, agent: Agent, index: int, reply: Reply) -> None:
        agent.replies = {}

    # -- attacks ----------------------------------------------------------------------------------------------

    def filled(self, text: str) -> str:
        """An attack with the words of this place in it."""
        for word, value in self.words.items():
            text = text.replace(f"{{{word}}}", value)
        return swollen(text)

    async def attempt(self, tool: str, **arguments: object) -> Reply:
        """Have the agent make one call, and see that what it is told is bounded and holds no secret."""
        reply = await carry_out(self.agent, self, 0, Call(name=tool, arguments=arguments))  # type: ignore[arg-type]
        assert_harmless(reply)
        return reply

    def assert_intact(self) -> None:
        """Nothing outside, nothing of the record and nothing of the repository's configuration has changed."""
        assert self.touched() == self._before
        assert not _running(MARK)

    def touched(self) -> dict[str, object]:
        """Everything that must stay as it is."""
        git = self.project / ".git"
        planted = {name: os.path.lexists(git / name) and not (git / name).is_dir() for name in _PLANTABLE}
        kept = {self.layout.notes, *self.layout.agents.glob("*/output")}
        return {
            "outside": _photograph(self.outside, set()),
            "record": _photograph(self.project / ".ramet", kept),
            "hooks": _photograph(git / "hooks", set()),
            "config": _photograph(git / "config", set()),
            "planted": planted,
        }

    def _furnish(self) -> None:
        here, there = self.project, self.outside
        subprocess.run(["git", "init", "-q", str(here)], check=True, env={"PATH": os.environ["PATH"], "HOME": "/"})
        (here / ".git" / "hooks" / "pre-commit").write_text("#!/bin/sh\n")
        (here / "plain.txt").write_text("plain\n")
        (here / "sub" / ".git" / "hooks").mkdir(parents=True)
        (here / "deep" / "er").mkdir(parents=True)
        subprocess.run(["cp", "-r", str(here / ".git"), str(here / "evil")], check=True)
        for directory in (here / "evil", here / "evil" / "common"):
            directory.mkdir(exist_ok=True)
            (directory / "config").write_text(f'[core]\n\tfsmonitor = "touch {self.made}; false"\n')
        links = {
            "link-dir": there, "link-file": there / "secret.txt", "link-chain": "link-dir", "link-loop": "link-loop",
            "link-root": "/", "link-environ": "/proc/self/environ", "link-zero": "/dev/zero", "link-up": "..",
            "deep/link-dir": there, "link-hooks": ".git/hooks", "link-record": f".ramet/{self.layout.run}",
            "link-dangling": there / "nothing",
        }  # fmt: skip
        for name, target in links.items():
            (here / name).symlink_to(target)
        os.mkfifo(here / "fifo")
        with socket.socket(socket.AF_UNIX) as made:
            here_descriptor = os.open(here, os.O_RDONLY | os.O_DIRECTORY)
            made.bind(f"/proc/self/fd/{here_descriptor}/socket")
            os.close(here_descriptor)


_PLANTABLE = ("commondir", "config.worktree")


def assert_harmless(reply: Reply) -> None:
    """What an agent is told is bounded, holds no secret, and drives no terminal."""
    said = f"{reply.text}\n{reply.note}"
    assert len(said) <= MOST_CHARS
    assert SECRET not in said
    assert not _CONTROL.search(reply.text if not reply.error else "")


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """What is done here takes no longer than `seconds` and some slack, and little memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - began < seconds + SLACK_S
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < MOST_BYTES


def _photograph(path: Path, without: set[Path]) -> dict[str, tuple[object, ...]]:
    """What is at and below `path`: kinds, modes, times, contents. Follows no link."""
    found: dict[str, tuple[object, ...]] = {}
    waiting = [path]
    while waiting:
        at = waiting.pop()
        if at in without or not os.path.lexists(at):
            continue
        status = at.lstat()
        content: object = None
        if stat.S_ISDIR(status.st_mode):
            waiting += sorted(at.iterdir())
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(at)
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(at.read_bytes()).hexdigest(), status.st_mtime_ns
        found[str(at)] = (status.st_mode, status.st_uid, status.st_nlink * stat.S_ISREG(status.st_mode), content)
    return found


def _running(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # it has ended
        if f"sleep {mark}" in line or f"mark{mark}" in line:
            found.append(line)
    return found


def _remembered_by_the_kernel() -> int:
    """The number of a key in the user's session keyring that holds the secret; 1 where there are no keyrings."""
    if platform.machine() != "x86_64":
        return 1
    number = ctypes.CDLL(None).syscall(
        _ADD_KEY, b"user", b"ramet-canary", SECRET.encode(), len(SECRET), _SESSION_KEYRING
    )
    return max(number, 1)
