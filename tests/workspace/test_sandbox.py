"""Commands: what they can reach, what they can use, and that nothing of them stays."""

import fcntl
import gc
import math
import os
import socket
import sys
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import workspace
from workspace.errors import CommandRefused
from workspace.layout import RunLayout
from workspace.sandbox import CommandResult, Limits, Mount, Sandbox

pytestmark = pytest.mark.anyio

# Holds a lock from a session of its own, deaf to polite signals, then says so in `ready`, and never ends.
DETACHED = """
trap '' HUP INT TERM
setsid flock lock -c 'trap "" HUP INT TERM; echo > ready; sleep 1000' >/dev/null 2>&1 &
"""


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    project = tmp_path / "project"
    (project / ".git" / "hooks").mkdir(parents=True)
    (project / ".git" / "config").write_text("[core]\n")
    (tmp_path / "secret.txt").write_text("do not read\n")
    layout = RunLayout(project, "20261122-081501-k3f9")
    layout.notes.mkdir(parents=True)
    layout.journal.write_text("{}\n")
    return layout


@pytest.fixture
async def sandbox(layout: RunLayout) -> Sandbox:
    made = Sandbox.of_run(layout, limits=Limits(shown_bytes=2000, kept_bytes=100_000))
    probe = await made.probe()
    if not probe.works:
        pytest.skip(f"no sandbox on this system: {probe.reason}")
    return made


@pytest.fixture
def plain(layout: RunLayout) -> Sandbox:
    return Sandbox(layout.directory, unsandboxed=True, bwrap="no-such-bwrap")


async def run(sandbox: Sandbox, command: str, *, timeout_s: float = 30) -> CommandResult:
    output = sandbox.directory / ".ramet" / "output" / "call.txt"
    return await sandbox.run(command, timeout_s=timeout_s, output_path=output)


def assert_lock_is_free(directory: Path) -> None:
    """Whoever held the lock is gone: not "will be soon"."""
    with (directory / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def lock_gets_free(directory: Path) -> None:
    """Whoever held the lock has been killed: the kernel takes a moment to bury it."""

    def take() -> None:
        with (directory / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    with anyio.fail_after(10):
        await anyio.to_thread.run_sync(take, abandon_on_cancel=True)


async def test_a_command_works_in_the_directory(sandbox: Sandbox) -> None:
    """A command runs in the working directory, writes there, and its exit code and output come back."""
    result = await run(sandbox, "echo one; echo two >&2; pwd; echo x > made; exit 3")
    assert result == CommandResult(
        exit_code=3,
        output=f"one\ntwo\n{sandbox.directory}\n",
        timed_out=False,
        truncated=False,
        output_path=None,
        sandboxed=True,
    )
    assert (sandbox.directory / "made").read_text() == "x\n"
    assert (await run(sandbox, "kill -9 $$", timeout_s=math.inf)).exit_code == 137


async def test_nothing_outside_can_be_read(sandbox: Sandbox, tmp_path: Path) -> None:
    """A file beside the working directory, the home directory and other processes are not there."""
    result = await run(sandbox, f"cat {tmp_path}/secret.txt; cat ../secret.txt; ls -A {tmp_path}; ls -A ~ /home /root")
    assert "do not read" not in result.output
    assert "\nproject\n" in result.output
    assert result.output.count("No such file or directory") == 4
    assert str(os.getpid()) not in (await run(sandbox, "ls /proc")).output.split()
    assert int((await run(sandbox, "ls -d /proc/[0-9]* | wc -l")).output) < 8


async def test_what_is_not_the_models_cannot_be_written(sandbox: Sandbox) -> None:
    """The system, the run's record and the repository's hooks are read-only."""
    run_directory = ".ramet/20261122-081501-k3f9"
    places = ["/etc/passwd", "/etc/new", "/usr/bin/new", "/new", "/dev/new", ".git/hooks/new", ".git/config"]
    places += [f"{run_directory}/journal.jsonl", f"{run_directory}/new", ".ramet/new"]
    result = await run(
        sandbox,
        f"for place in {' '.join(places)}; do (echo x >> $place) && echo WRITTEN; rm $place && echo REMOVED; done",
    )
    for place in places:
        assert f"{place}: Read-only file system" in result.output
    assert "WRITTEN" not in result.output
    assert "REMOVED" not in result.output


async def test_protected_directories_cannot_be_moved_away(sandbox: Sandbox) -> None:
    """Renaming a protected directory, to put another in its place, is refused."""
    result = await run(sandbox, "mv .git g; mv .ramet r; rm -rf .git .ramet; ls -A")
    assert result.output.endswith(".git\n.ramet\n")
    assert (sandbox.directory / ".git" / "config").read_text() == "[core]\n"


async def test_mounts(layout: RunLayout, sandbox: Sandbox, tmp_path: Path) -> None:
    """A path outside is seen where it is asked for, and written only if that is asked for too."""
    outside = tmp_path / "outside"
    outside.mkdir()
    mounts = [
        Mount(source=outside, target=Path("/deep/in")),
        Mount(source=outside, target=Path("/out"), writable=True),
    ]
    mounted = Sandbox(layout.directory, mounts=mounts, environment={"GRADE": "0.5"})
    result = await run(mounted, "echo $GRADE $HOME > /out/a; cat /deep/in/a; echo x > /deep/in/b; ls -A /deep /out")
    assert result.output.startswith("0.5 /tmp\n")
    assert "/deep/in/b: Read-only file system" in result.output
    assert [path.name for path in outside.iterdir()] == ["a"]


async def test_what_is_protected_is_so_at_every_path(layout: RunLayout, sandbox: Sandbox, tmp_path: Path) -> None:
    """The working directory under another name, also that of a link to it, is as writable as under its own."""
    (tmp_path / "link").symlink_to(layout.directory)
    mount = Mount(source=tmp_path / "link", target=Path("/app"), writable=True)
    record, notes = layout.directory / ".ramet", layout.notes
    mounted = Sandbox(layout.directory, record=record, notes=notes, mounts=[mount])
    places = [".git/hooks/new", ".git/config", ".ramet/new", layout.relative(layout.journal)]
    writable = [f"{layout.relative(notes)}/new", ".git/HEAD", "new"]
    result = await run(mounted, f"cd /app; for place in {' '.join([*places, *writable])}; do echo x >> $place; done")
    assert result.output.count("Read-only file system") == len(places)
    assert all(f"{place}: Read-only file system" in result.output for place in places)
    assert all((layout.directory / place).read_text() == "x\n" for place in writable)


async def test_notes_and_the_repository_can_be_written(sandbox: Sandbox, layout: RunLayout) -> None:
    """The run's notes, the rest of `.git`, and a private /tmp that leaves no trace are writable."""
    notes = layout.relative(layout.notes)
    result = await run(sandbox, f"echo x > {notes}/a && echo y > .git/HEAD && echo z > /tmp/ramet-test-z && echo ok")
    assert result.output == "ok\n"
    assert (layout.notes / "a").read_text() == "x\n"
    assert not await anyio.Path("/tmp/ramet-test-z").exists()


async def test_there_is_no_network(sandbox: Sandbox) -> None:
    """A server on this machine cannot be reached; there is no interface but the sandbox's own loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = await run(sandbox, f"exec 3<>/dev/tcp/127.0.0.1/{port}; tail -n +3 /proc/net/dev | cut -d: -f1")
    assert "Connection refused" in result.output
    assert result.output.split()[-1] == "lo"


async def test_the_environment_holds_no_secret(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the runtime are not passed on, not even to bubblewrap itself, and no capability is left."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    result = await run(sandbox, "env; cat /proc/*/environ | tr '\\0' '\\n'; grep CapEff /proc/self/status")
    assert "hunter2" not in result.output
    assert "HOME=/tmp\n" in result.output
    assert "CapEff:\t0000000000000000" in result.output
    assert (await run(sandbox, "ls /proc/self/fd | wc -l")).output == "4\n"


async def test_limits_hold_in_the_sandbox(layout: RunLayout, sandbox: Sandbox) -> None:
    """A process gets no more memory, file size or processes than the limits say, and no larger /tmp."""
    limits = Limits(memory_bytes=1 << 28, file_bytes=1 << 20, processes=77, cpu_s=9, tmp_bytes=1 << 20)
    small = Sandbox.of_run(layout, limits=limits)
    result = await run(small, "ulimit -v -f -t -c; ulimit -u; head -c 2000000 /dev/zero > big; stat -c %s big")
    assert [line.split()[-1] for line in result.output.splitlines()[:4]] == ["262144", "1024", "9", "0"]
    assert result.output.splitlines()[4] == "77"
    assert result.output.splitlines()[-1] == str(1 << 20)
    for place in ("/tmp", "/dev/shm"):
        result = await run(small, f"cd {place}; head -c 700000 /dev/zero | tee one > two")
        assert "No space left" in result.output


async def test_long_output_is_cut_and_kept(sandbox: Sandbox) -> None:
    """Of long output the two ends are returned, and the file that is named holds all of it."""
    result = await run(sandbox, "echo begin; seq 5000; echo 'end\033[2J'")
    assert result.truncated
    assert result.output_path == sandbox.directory / ".ramet/output/call.txt"
    whole = result.output_path.read_text()
    assert whole.startswith("begin\n1\n2\n")
    assert whole.endswith("5000\nend\033[2J\n")
    assert result.output.startswith("begin\n1\n")
    assert result.output.endswith("5000\nend␛[2J\n")
    left_out = len(whole) - 2000
    assert f"[{left_out} bytes left out here; the whole output: .ramet/output/call.txt]" in result.output


async def test_endless_output_is_bounded(sandbox: Sandbox) -> None:
    """A command that never stops writing fills neither the memory nor the disk, and ends at its timeout."""
    result = await run(sandbox, "yes", timeout_s=0.5)
    assert result.timed_out
    assert result.exit_code is None
    assert len(result.output) < 2200
    assert "the first 100000 bytes: .ramet/output/call.txt" in result.output
    assert result.output_path is not None
    assert result.output_path.stat().st_size == 100_000


async def test_output_that_cannot_be_kept_does_not_hurt(sandbox: Sandbox) -> None:
    """Where the file for long output cannot be made, the ends are still returned, and say so."""
    (sandbox.directory / "file").touch()
    result = await sandbox.run("seq 5000", timeout_s=30, output_path=sandbox.directory / "file" / "x")
    assert result.output_path is None
    assert "bytes left out here; it could not be kept]" in result.output


async def test_a_timeout_kills_everything(sandbox: Sandbox) -> None:
    """At the timeout, processes that detached themselves are gone too, and what was written is returned."""
    os.mkfifo(sandbox.directory / "ready")
    result = await run(sandbox, f"{DETACHED} cat ready; echo started; sleep 1000", timeout_s=1.5)
    assert (result.timed_out, result.exit_code, result.output) == (True, None, "\nstarted\n")
    assert_lock_is_free(sandbox.directory)


async def test_what_a_command_leaves_running_ends_with_it(sandbox: Sandbox) -> None:
    """A command that ends while its background processes run does not wait for them: they end."""
    os.mkfifo(sandbox.directory / "ready")
    result = await run(sandbox, f"{DETACHED} cat ready; sleep 1000 & echo done")
    assert (result.exit_code, result.output) == (0, "\ndone\n")
    assert_lock_is_free(sandbox.directory)


async def test_cancellation_kills_everything(sandbox: Sandbox) -> None:
    """When `run` is cancelled, all the command started is gone once the cancellation comes out; nothing stays
    open.
    """
    os.mkfifo(sandbox.directory / "ready")
    await run(sandbox, "true")
    before = len(os.listdir("/proc/self/fd"))
    async with anyio.create_task_group() as group:
        group.start_soon(run, sandbox, f"{DETACHED} sleep 1000")
        await anyio.to_thread.run_sync((sandbox.directory / "ready").read_text)
        group.cancel_scope.cancel()
    assert_lock_is_free(sandbox.directory)
    assert len(os.listdir("/proc/self/fd")) == before
    gc.collect()


async def test_a_killed_runtime_leaves_no_command(sandbox: Sandbox) -> None:
    """When the process that runs commands is killed outright, they die with it."""
    os.mkfifo(sandbox.directory / "ready")
    program = (
        "import anyio, sys\n"
        "from pathlib import Path\n"
        "from workspace import Sandbox\n"
        "here = Path(sys.argv[1])\n"
        "anyio.run(lambda: Sandbox(here).run(sys.argv[2], timeout_s=1000, output_path=here / 'out'))\n"
    )
    arguments = [sys.executable, "-c", program, str(sandbox.directory), f"{DETACHED} sleep 1000"]
    async with await anyio.open_process(arguments, cwd=Path(workspace.__file__).parents[1]) as runtime:
        await anyio.to_thread.run_sync((sandbox.directory / "ready").read_text)
        runtime.kill()
    with (sandbox.directory / "lock").open() as file:
        await anyio.to_thread.run_sync(fcntl.flock, file, fcntl.LOCK_EX)


async def test_commands_side_by_side_keep_apart(sandbox: Sandbox) -> None:
    """Each of many commands at once gets its own output and exit code."""
    results: dict[int, str] = {}

    async def one(number: int) -> None:
        results[number] = (await run(sandbox, f"echo {number}")).output

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(one, number)
    assert results == {number: f"{number}\n" for number in range(8)}


async def test_without_a_sandbox_commands_are_refused(layout: RunLayout) -> None:
    """Where bubblewrap is missing or does not work, the probe says why and a command is refused with that."""
    missing = Sandbox(layout.directory, bwrap="no-such-bwrap")
    assert (await missing.probe()).reason == "bubblewrap (bwrap) is not installed"
    with pytest.raises(CommandRefused, match=r"not installed.*--unsandboxed"):
        await run(missing, "touch made")
    broken = layout.directory / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n")
    broken.chmod(0o755)
    with pytest.raises(CommandRefused, match="setting up uid map: Permission denied"):
        await run(Sandbox(layout.directory, bwrap=str(broken)), "touch made")
    assert not (layout.directory / "made").exists()


async def test_unsandboxed_commands_run_with_the_same_bounds(plain: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs plainly has the same environment, output and exit codes, and the result says so."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    result = await run(plain, "env | sort | grep -v '^_\\|PWD\\|SHLVL'; ulimit -c; kill -9 $$")
    assert (result.exit_code, result.sandboxed) == (137, False)
    assert result.output.splitlines()[:2] == ["HOME=/tmp", "LANG=C.UTF-8"]
    assert result.output.splitlines()[-1] == "0"
    assert "hunter2" not in result.output


async def test_an_unsandboxed_command_leaves_nothing_of_its_group(plain: Sandbox) -> None:
    """At the timeout, at the end, and on cancellation, the command's process group is killed."""
    os.mkfifo(plain.directory / "ready")
    background = "flock lock -c 'echo > ready; sleep 1000' & "
    result = await run(plain, f"{background} cat ready; sleep 1000", timeout_s=1.5)
    assert result.timed_out
    await lock_gets_free(plain.directory)
    assert (await run(plain, f"{background} cat ready; echo done")).output == "\ndone\n"
    await lock_gets_free(plain.directory)
    async with anyio.create_task_group() as group:
        group.start_soon(run, plain, f"{background} sleep 1000")
        await anyio.to_thread.run_sync((plain.directory / "ready").read_text)
        group.cancel_scope.cancel()
    await lock_gets_free(plain.directory)
    assert threading.active_count() < 64


@pytest.mark.parametrize("command", ["a\0b", "\ud800", "x" * 3_000_000])
async def test_a_command_that_cannot_be_started_is_refused(sandbox: Sandbox, command: str) -> None:
    """Text that cannot be a command line, or is too long for one, is an error and nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CommandRefused):
        await run(sandbox, command)
    assert len(os.listdir("/proc/self/fd")) == before
