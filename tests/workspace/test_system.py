"""Commands on another system than the machine's own, in the real sandbox."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.systems import make_root
from workspace import (
    CommandRefused,
    CommandResult,
    Limits,
    Mount,
    RunLayout,
    Sandbox,
    System,
    WorkspaceError,
    note_system,
    noted_system,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with a shell, in which `/opt` holds something and `/logs` is a link."""
    made = make_root(tmp_path_factory.mktemp("system") / "root")
    (made / "opt" / "deep").mkdir(parents=True)
    (made / "opt" / "deep" / "file").write_text("there")
    (made / "logs").symlink_to("/opt/deep")
    return made


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    """A run in a directory that is a repository."""
    project = tmp_path / "project"
    project.mkdir()
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    return RunLayout.create(project, letters=random.Random(7))


@pytest.fixture
def system(root: Path) -> System:
    return System(root=root, workdir=Path("/srv/app"), environment={"COLOUR": "blue", "HOME": "/srv"})


async def run(sandbox: Sandbox, command: str, timeout_s: float = 60) -> CommandResult:
    return await sandbox.run(command, timeout_s=timeout_s, output_path=sandbox.directory / ".out")


async def test_commands_see_the_system(layout: RunLayout, system: System) -> None:
    """Its programs, files and environment, and nothing of the machine's; they begin in its working directory, which is
    the run's."""
    (layout.directory / "task.txt").write_text("do it\n")
    done = await run(
        Sandbox.of_run(layout, system=system),
        "pwd; own; cat /etc/own task.txt; echo $COLOUR $HOME; echo new > made.txt; ls /usr/bin /etc/passwd",
    )
    assert done.output.startswith("/srv/app\nthe image\nof the image\ndo it\nblue /srv\n")
    assert done.exit_code != 0
    assert (layout.directory / "made.txt").read_text() == "new\n"


async def test_the_system_cannot_be_changed(layout: RunLayout, system: System) -> None:
    """All but the working directory and /tmp is read-only, also what was made anew to have a place for it."""
    sandbox = Sandbox.of_run(layout, system=system)
    for path in ("/x", "/etc/own", "/bin/own", "/opt/x", "/srv/x", "/opt/deep/file"):
        assert (await run(sandbox, f"echo x >> {path}")).exit_code != 0, path
    assert (await run(sandbox, "echo x > /tmp/x && cat /tmp/x")).exit_code == 0
    assert (system.root / "etc" / "own").read_text() == "of the image\n"


async def test_the_record_is_protected_wherever_it_is_seen(layout: RunLayout, system: System) -> None:
    """The working directory is at two places, and what is read-only of it is so at both."""
    sandbox = Sandbox.of_run(layout, system=system)
    places = ("/srv/app", str(layout.directory))
    for place in places:
        record = f"{place}/.ramet/{layout.run}"
        for path in (f"{record}/x", f"{place}/.ramet/x", f"{place}/.git/config", f"{place}/.git/hooks/pre-commit"):
            assert (await run(sandbox, f"echo x >> {path}")).exit_code != 0, path
        assert (await run(sandbox, f"echo x >> {record}/notes/x")).exit_code == 0
        assert (await run(sandbox, f"echo x >> {place}/x")).exit_code == 0
    assert (layout.notes / "x").read_text() == (layout.directory / "x").read_text() == "x\nx\n"


async def test_mounts_find_a_place(layout: RunLayout, system: System, tmp_path: Path) -> None:
    """Also below directories that the system has, which keep what is in them, and where it has a link."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("given")
    targets = (Path("/opt/given"), Path("/opt/deep"), Path("/logs/verifier"))
    mounts = [Mount(source=tmp_path / "given", target=target) for target in targets[:1]]
    sandbox = Sandbox(layout.directory, system=system, mounts=mounts)
    assert (await run(sandbox, "cat /opt/given/file /opt/deep/file /logs/file")).output == "giventherethere"
    mounts = [Mount(source=tmp_path / "given", target=target) for target in targets[1:]]
    sandbox = Sandbox(layout.directory, system=system, mounts=mounts)
    assert (await run(sandbox, "cat /opt/deep/file /logs/verifier/file")).output == "givengiven"


@pytest.mark.parametrize("where", ["outer", "inner"])
async def test_a_working_directory_that_lies_in_the_other(root: Path, tmp_path: Path, where: str) -> None:
    """Where one lies in the other it is only at the system's place: nothing appears in the run's files."""
    directory = tmp_path / "a" / "b"
    directory.mkdir(parents=True)
    workdir = tmp_path / "a" if where == "outer" else directory / "c"
    sandbox = Sandbox(directory, system=System(root=root, workdir=workdir))
    assert (await run(sandbox, "pwd; touch made")).output == f"{workdir}\n"
    assert [path.name for path in directory.iterdir()] == ["made"]


async def test_limits_hold_there(layout: RunLayout, system: System) -> None:
    """Though it has no program to set them."""
    limits = Limits(memory_bytes=256 << 20, file_bytes=1 << 20, processes=77)
    sandbox = Sandbox.of_run(layout, system=system, limits=limits)
    done = await run(
        sandbox, "ulimit -v; ulimit -u; ulimit -f; ulimit -c; while :; do echo 0123456789abcdef; done > big"
    )
    assert done.output.split()[:4] == [str(256 << 10), "77", str(1 << 10), "0"]
    assert (layout.directory / "big").stat().st_size <= 1 << 20
    assert (await run(sandbox, "sleep 60", timeout_s=1)).timed_out


async def test_a_shell_that_is_not_bash(layout: RunLayout, tmp_path: Path) -> None:
    """Commands run in what shell there is, within the same limits."""
    root = make_root(tmp_path / "other", "sh", "cat")
    sandbox = Sandbox.of_run(layout, system=System(root=root, workdir=Path("/w")), limits=Limits(processes=77))
    done = await run(sandbox, "(ulimit -p || ulimit -u) 2>/dev/null; echo 'it''s' \"$0\"")
    assert done.output.split() == ["77", "its", "/bin/sh"]


async def test_what_an_image_sets_stays_inside(layout: RunLayout, root: Path) -> None:
    """The machine's own programs, which build the sandbox, get none of its environment."""
    system = System(root=root, workdir=Path("/w"), environment={"LD_LIBRARY_PATH": "/w/planted", "PATH": "/bin"})
    done = await run(Sandbox.of_run(layout, system=system), "echo $LD_LIBRARY_PATH; cat /proc/1/environ")
    assert done.output.startswith("/w/planted\n")
    assert done.output.count("planted") == 1


async def test_a_system_without_a_shell(layout: RunLayout, tmp_path: Path) -> None:
    """Commands are refused, with the reason."""
    root = make_root(tmp_path / "other", "cat")
    with pytest.raises(CommandRefused, match=r"no sandbox \(bwrap: .*/bin/sh"):
        await run(Sandbox.of_run(layout, system=System(root=root, workdir=Path("/w"))), "true")


async def test_without_a_sandbox_there_is_no_other_system(layout: RunLayout, system: System) -> None:
    """Where commands could only run plainly, they would run on the machine's own: they do not run."""
    sandbox = Sandbox(layout.directory, system=system, unsandboxed=True, bwrap="no-such-bwrap")
    with pytest.raises(CommandRefused, match="they need another system than the machine's own"):
        await run(sandbox, "touch made")
    assert not (layout.directory / "made").exists()


def test_a_run_knows_its_system(layout: RunLayout, system: System, tmp_path: Path) -> None:
    """From its record; one line says so where that system is gone, or the note spoilt."""
    assert noted_system(layout) is None
    note_system(layout, system)
    assert noted_system(layout) == system
    note_system(layout, System(root=tmp_path / "gone", workdir=Path("/w")))
    with pytest.raises(WorkspaceError, match=r"system.json: root: .*gone is gone"):
        noted_system(layout)
    (layout.root / "system.json").write_text('{"root": 1}')
    with pytest.raises(WorkspaceError, match=r"system.json: cannot be read: .*root"):
        noted_system(layout)
