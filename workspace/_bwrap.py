"""The command lines that confine a shell command: what a sandbox sees, and what one process of it may use.

Pure but for looking at what exists on this system. Knows nothing of running them.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

# What programs need to start, from the library loader's cache to the user's name; nothing here is a secret.
_ETC = (
    "alternatives", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "passwd",
)  # fmt: skip
# Merged into /usr on most systems, and then links; directories of their own on others.
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# A process count is the sandbox's own from Linux 5.14 on; before, it counted all processes of the user
# outside too.
_OWN_PROCESS_COUNT = (5, 14)
# Files of `.git`, most often absent, that name another configuration, or are one.
PLANTABLE = ("commondir", "config.worktree")

ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
}
"""All that a command finds in its environment."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What commands may use. The first four hold for each process by itself, and children get them too."""

    memory_bytes: int = 16 << 30
    """Address space. Generous: several language runtimes reserve far more than they use."""
    cpu_s: int = 3600
    """Processor time. A backstop to the timeout."""
    file_bytes: int = 2 << 30
    """The largest file that can be written. The disk as a whole is not limited."""
    processes: int = 1024
    """Processes and threads of the sandbox together, where the kernel counts them (see `Sandbox`)."""
    tmp_bytes: int = 1 << 30
    """The private /tmp, and /dev/shm. Held in memory."""
    shown_bytes: int = 16_384
    """How much output is returned, about 4,000 tokens: the first and the last half."""
    kept_bytes: int = 64 << 20
    """How much output is kept in a file when it is more than can be shown."""


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """What of the system a sandbox sees: `source` there, at `target` in the sandbox, both absolute."""

    source: Path
    target: Path
    writable: bool = False


def shell(command: str, limits: Limits, *, prlimit: str | None, own_processes: bool) -> list[str]:
    """The command line that runs `command` in a shell within `limits`; without `prlimit`, in none."""
    program = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
    if prlimit is None:
        return [program, "-c", command]
    limit = [
        prlimit,
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_s}",
        f"--fsize={limits.file_bytes}",
        "--core=0",
    ]
    if own_processes and _kernel() >= _OWN_PROCESS_COUNT:
        limit.append(f"--nproc={limits.processes}")
    return [*limit, "--", program, "-c", command]


def confined(
    directory: Path,
    mounts: Sequence[Mount],
    *,
    environment: Mapping[str, str],
    limits: Limits,
    options: frozenset[str],
    info: int,
) -> list[str]:
    """The arguments of a bubblewrap in which only `directory` can be written, up to the command itself.

    `mounts` are made last, with the directory's own: outer ones first, whose inner parts they would hide. `options`
    are those this bubblewrap has.
    """
    size = ["--size", str(limits.tmp_bytes)] if "--size" in options else []
    arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    if "--disable-userns" in options:
        arguments += ["--unshare-user", "--disable-userns"]
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    arguments += ["--info-fd", str(info), "--ro-bind", "/usr", "/usr"]
    for name in _TOP:
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    # The kernel's settings belong to root, whose commands need no capability to write them: one of them names a program
    # that the kernel runs outside.
    arguments += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]
    arguments += ["--dev", "/dev", *size, "--tmpfs", "/dev/shm", *size, "--tmpfs", "/tmp"]
    own = Mount(source=directory, target=directory, writable=True)
    for mount in sorted([own, *mounts], key=lambda mount: len(mount.target.parts)):
        arguments += ["--bind" if mount.writable else "--ro-bind", str(mount.source), str(mount.target)]
    # What bubblewrap built itself is a file system in memory without a size: nothing may be written into it.
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(directory), "--"]


def mounts(directory: Path, record: Path | None, notes: Path | None, project: Path) -> list[Mount]:
    """What is read-only below the working directory, and what of that can be written after all.

    `record` and `notes` lie below `project`; below `directory` they are at the same place.

    Each protected directory is a mount of its own, also where it stays writable: a mount cannot be renamed,
    so its parts cannot be moved out of the way either.
    """
    made: list[Mount] = []
    if record:
        made.append(Mount(source=record, target=directory / record.relative_to(project)))
    if notes:
        made.append(Mount(source=notes, target=directory / notes.relative_to(project), writable=True))
    git = directory / ".git"
    if git.is_symlink() or not git.exists():
        return made
    inside = [git / "hooks", git / "config"]
    if not git.is_dir() or any(path.is_symlink() or not path.exists() for path in inside):
        return [*made, Mount(source=git, target=git)]
    inside += [path for name in PLANTABLE if (path := git / name).exists()]
    return [*made, Mount(source=git, target=git, writable=True), *(Mount(source=path, target=path) for path in inside)]


def again(mount: Mount, protected: Sequence[Mount]) -> list[Mount]:
    """What of `protected` a writable mount would show at another path without its protection: made there too."""
    source = mount.source.resolve()
    return [
        Mount(source=one.source, target=mount.target / one.source.relative_to(source), writable=one.writable)
        for one in protected
        if mount.writable and one.source.is_relative_to(source)
    ]


def plantable(directory: Path) -> list[Path]:
    """Files of `.git` that are not there and through which, were they made, git would read another configuration.

    What does not exist cannot be mounted over: whoever runs a command takes them away after it.
    """
    git = directory / ".git"
    if git.is_symlink() or not git.is_dir():
        return []
    return [path for name in PLANTABLE if not os.path.lexists(path := git / name)]


def _kernel() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(letter for letter in minor if letter.isdigit()) or 0)
