"""Runs a model's shell commands under bubblewrap: it can change the working directory, and nothing else.

Owns the confinement of commands. Invariants: outside a sandbox nothing runs unless that was asked for by
name; a command has ended, with everything it started, when `run` returns or is cancelled; its output never
fills the memory. It does not know which model asks, or what the answer is for.

What a command sees: the working directory at its own path, writable; of it read-only: the runs' record
(`.ramet`, but for this run's notes) and the hooks and configuration of the user's git repository, through
which it could otherwise run commands outside later; `/usr` and the few files of `/etc` that programs need,
read-only; a private `/tmp`, `/proc` and `/dev`; no home, no network, no environment, no other process, no
capability. Where commands run on another system (see `System`), all of that takes the place of `/usr` and `/etc`,
and the working directory is also at its own place there, in which they start.

What is bounded: time (`timeout_s`; then everything in the sandbox is killed, whatever it forked or detached),
output, memory, processor time and file size for each process, and `/tmp`. Not bounded: the disk space of the
working directory; the memory of all processes together; and, where commands run as root or on a kernel before
5.14, the number of processes (the kernel does not hold root to it): there a fork bomb lasts until its time is
up.

A file that would lead git to another configuration (`.git/commondir`) cannot be mounted over where there is none:
it is taken away when the command that made it ends, and not before.

Not protected: a repository that did not exist when the sandbox was made, or that lies deeper in the tree.
Whoever runs git in one that a model made trusts its hooks.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import anyio
import anyio.to_thread
import msgspec

from workspace import _bwrap
from workspace._bwrap import ENVIRONMENT, Limits, Mount
from workspace._capture import Capture
from workspace._process import Cause, Ended, Stop, run_process
from workspace.errors import CommandRefused
from workspace.layout import RAMET, RunLayout
from workspace.system import System

# Starting nothing takes milliseconds; a system under load may take a hundred times as long.
_PROBE_TIMEOUT_S = 20.0
# Each running command holds a thread; a machine has fewer cores than this, and more commands would only wait
# there.
_COMMANDS_AT_ONCE = 32


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a command.

    `exit_code` is None when it timed out, 128 + n when signal n ended it. `output` is what it wrote, standard
    output and error as they came, harmless to show; where `truncated`, its two ends around a line that says
    how much is left out, and `output_path` is the file with the whole (None where the disk refused it).
    `sandboxed` is false for a command that ran plainly.
    """

    exit_code: int | None
    output: str
    timed_out: bool
    truncated: bool
    output_path: Path | None
    sandboxed: bool


class SandboxProbe(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a sandbox can be had on this system, and in one line why not."""

    works: bool
    reason: str = ""


class Sandbox:
    """Runs commands in one working directory, at most 32 at a time: others wait."""

    def __init__(
        self,
        directory: Path | str,
        *,
        record: Path | None = None,
        notes: Path | None = None,
        project: Path | None = None,
        readable: Sequence[Path] = (),
        mounts: Sequence[Mount] = (),
        environment: Mapping[str, str] = {},
        system: System | None = None,
        limits: Limits | None = None,
        unsandboxed: bool = False,
        bwrap: str = "bwrap",
    ) -> None:
        """`record` below `directory` is read-only but for `notes` below it. With `project`, of which `directory` is
        an isolated copy, they lie below the project, and commands find them in the copy.

        `readable` are further paths outside that commands may read, such as an interpreter in a home
        directory; `mounts` are paths that have another place in the sandbox, or may be written: what is protected
        is so there too. `environment` is what commands find in theirs beside what all find. With `system`, they
        run on that instead of the machine's own. With `unsandboxed`, commands run plainly, without mounts, where no
        sandbox can be had and they need no other system; without, they are refused there. Make the sandbox before
        the first command runs: what it protects in `.git` is settled here, so that no command can change the
        mounts of a later one.
        """
        self.directory = Path(directory).resolve()
        self.limits = limits or Limits()
        self.unsandboxed = unsandboxed
        self._environment = {**ENVIRONMENT, **(system.environment if system else {}), **environment}
        self._project = project or self.directory
        self._system = system
        self._start = system.workdir if system else self.directory
        self._mounts = [Mount(source=path, target=path) for path in readable]
        for home in _bwrap.homes(self.directory, self._start):
            protected = _bwrap.mounts(self.directory, home, record, notes, self._project)
            self._mounts += [Mount(source=self.directory, target=home, writable=True), *protected]
        self._mounts += [*mounts, *(one for mount in mounts for one in _bwrap.again(mount, protected))]
        self._plantable = _bwrap.plantable(self.directory)
        self._bwrap = shutil.which(bwrap)
        self._prlimit = shutil.which("prlimit")
        self._limiter = anyio.CapacityLimiter(_COMMANDS_AT_ONCE)
        self._options: frozenset[str] = frozenset()
        self._probed: SandboxProbe | None = None

    @classmethod
    def of_run(
        cls,
        layout: RunLayout,
        *,
        directory: Path | None = None,
        readable: Sequence[Path] = (),
        limits: Limits | None = None,
        unsandboxed: bool = False,
        system: System | None = None,
    ) -> Self:
        """The sandbox of a run's agents: the project is writable, `.ramet` only in the run's notes.

        With `directory`, an isolated copy of the project, that is writable instead, and the project is not seen.
        """
        return cls(
            directory or layout.directory,
            record=layout.directory / RAMET,
            notes=layout.notes,
            project=layout.directory,
            readable=readable,
            limits=limits,
            unsandboxed=unsandboxed,
            system=system,
        )

    async def probe(self) -> SandboxProbe:
        """Find out, by running `true` in one, whether a sandbox can be had here. The first answer is kept."""
        if self._probed is None:
            self._probed = await self._probe()
        return self._probed

    async def run(self, command: str, *, timeout_s: float, output_path: Path) -> CommandResult:
        """Run `command` in a shell, for at most `timeout_s` seconds, and return what came of it.

        Output too long to return goes to `output_path`, whose directories are made; otherwise that is not
        touched. Raises CommandRefused where there is no sandbox or the command cannot be started. When
        cancelled, everything the command started is killed and gone within five seconds, and only then is the
        cancellation passed on.
        """
        if "\0" in command or not _encodable(command):
            raise CommandRefused(self.directory, "a command must be valid Unicode without NUL characters")
        probe = await self.probe()
        if not probe.works and (self._system is not None or not self.unsandboxed):
            why = "they need another system than the machine's own" if self._system else "--unsandboxed was not given"
            raise CommandRefused(
                self.directory, f"commands cannot run here: there is no sandbox ({probe.reason}) and {why}"
            )
        arguments = partial(self._confined, command) if probe.works else lambda _: self._plain(command)
        capture = Capture(output_path, shown_bytes=self.limits.shown_bytes, kept_bytes=self.limits.kept_bytes)
        with capture:
            try:
                environment = ENVIRONMENT if probe.works else self._environment
                ended = await self._execute(arguments, timeout_s, capture.feed, environment)
            finally:
                for path in self._plantable:
                    _take_away(path)
            timed_out = ended.cause is Cause.TIMED_OUT
            return CommandResult(
                exit_code=None if timed_out else ended.exit_code,
                output=capture.text(self._relative(output_path)),
                timed_out=timed_out,
                truncated=capture.truncated,
                output_path=capture.path,
                sandboxed=probe.works,
            )

    async def _probe(self) -> SandboxProbe:
        if self._bwrap is None:
            return SandboxProbe(works=False, reason="bubblewrap (bwrap) is not installed")
        if self.directory == Path("/"):
            return SandboxProbe(works=False, reason="the working directory is /")
        self._options = await anyio.to_thread.run_sync(_options, self._bwrap)
        said = bytearray()
        ended = await self._execute(partial(self._confined, ":"), _PROBE_TIMEOUT_S, said.extend)
        if ended.cause is Cause.EXITED and ended.exit_code == 0:
            return SandboxProbe(works=True)
        reason = said.decode("utf-8", "replace").strip().splitlines()
        return SandboxProbe(works=False, reason=reason[0] if reason else f"bwrap ended with {ended.exit_code}")

    def _plain(self, command: str) -> list[str]:
        return _bwrap.shell(command, self.limits, prlimit=self._prlimit, own_processes=False)

    def _confined(self, command: str, info: int) -> list[str]:
        assert self._bwrap is not None
        confinement = _bwrap.confined(
            self._start,
            self._mounts,
            environment=self._environment,
            limits=self.limits,
            options=self._options,
            info=info,
            root=self._system.root if self._system else None,
        )
        if self._system is None:
            line = _bwrap.shell(command, self.limits, prlimit=self._prlimit, own_processes=True)
            return [self._bwrap, *confinement, *line]
        # The other system may have no prlimit.
        limit = _bwrap.limited(self.limits, self._prlimit)
        return [*limit, self._bwrap, *confinement, *_bwrap.shell_of_system(command, self.limits)]

    async def _execute(
        self,
        arguments: Callable[[int], Sequence[str]],
        timeout_s: float,
        sink: Callable[[bytes], None],
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> Ended:
        """Run in a thread; on cancellation, have the thread kill what it runs, and wait for that.

        `environment` is that of the process itself. A bubblewrap has the harmless one: it can be read from inside, in
        /proc/1, and what a task or an image sets could lead the machine's own programs elsewhere.
        """
        outcome: list[Ended | OSError] = []
        done = anyio.Event()

        async def work() -> None:
            try:
                call = partial(
                    run_process,
                    arguments,
                    environment=environment,
                    directory=self.directory,
                    timeout_s=timeout_s,
                    sink=sink,
                    stop=stop,
                )
                outcome.append(await anyio.to_thread.run_sync(call, limiter=self._limiter))
            except OSError as error:
                outcome.append(error)
            finally:
                done.set()

        with Stop() as stop:
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                try:
                    await done.wait()
                finally:
                    stop.set()
        ended = outcome[0]
        if isinstance(ended, OSError):
            raise CommandRefused(self.directory, f"the command cannot be started: {ended.strerror}") from ended
        return ended

    def _relative(self, path: Path) -> str:
        for home in (self.directory, self._project):
            if path.is_relative_to(home):
                return str(path.relative_to(home))
        return str(path)


def _take_away(path: Path) -> None:
    """Delete a file or a link that a command made, also where it took the permission away. Git reads no directory."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        with contextlib.suppress(OSError):
            path.parent.chmod(0o755)
            path.unlink()
    except OSError:
        return


def _encodable(command: str) -> bool:
    try:
        os.fsencode(command)
    except UnicodeEncodeError:
        return False
    return True


def _options(bwrap: str) -> frozenset[str]:
    """The options that this version of bubblewrap knows, from its help."""
    shown = subprocess.run([bwrap, "--help"], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    return frozenset(word for word in (shown.stdout + shown.stderr).split() if word.startswith("--"))
