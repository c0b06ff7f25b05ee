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
# Of every sandbox itself, whatever the system.
_OURS = frozenset(Path("/", name) for name in ("dev", "proc", "tmp"))
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


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
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
    limit = limited(limits, prlimit)
    if limit and own_processes and _kernel() >= _OWN_PROCESS_COUNT:
        limit.insert(-1, f"--nproc={limits.processes}")
    return [*limit, program, "-c", command]


def shell_of_system(command: str, limits: Limits) -> list[str]:
    """The command line that runs `command` in the shell of another system, which may have few programs.

    What can be limited from outside is (see `limited`). The number of processes cannot: there all of the user count.
    """
    count = f"ulimit -u {limits.processes} || ulimit -p {limits.processes}"  # as bash and as others call it
    limit = f"{{ {count}; }} 2>/dev/null; " if _kernel() >= _OWN_PROCESS_COUNT else ""
    return ["/bin/sh", "-c", limit + 'exec "$(command -v bash || echo /bin/sh)" -c "$0"', command]


def limited(limits: Limits, prlimit: str | None) -> list[str]:
    """What stands before a command line for it to run within what can be limited everywhere alike."""
    if prlimit is None:
        return []
    return [
        prlimit,
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_s}:{limits.cpu_s + 1}",  # SIGXCPU says why; the hard limit's SIGKILL does not
        f"--fsize={limits.file_bytes}",
        "--core=0",
        "--",
    ]


def confined(
    start: Path,
    mounts: Sequence[Mount],
    *,
    environment: Mapping[str, str],
    limits: Limits,
    options: frozenset[str],
    info: int,
    root: Path | None = None,
) -> list[str]:
    """The arguments of a bubblewrap in which only writable mounts can be written, up to the command itself, which
    begins in `start`.

    `mounts` are made last, outer ones first, whose inner parts they would hide. `options` are those this bubblewrap
    has. `root` is where another system lies that is seen in place of the machine's own.
    """
    size = ["--size", str(limits.tmp_bytes)] if "--size" in options else []
    arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    if "--disable-userns" in options:
        arguments += ["--unshare-user", "--disable-userns"]
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    arguments += ["--info-fd", str(info), *(_machine() if root is None else _seen(root, mounts))]
    # The kernel's settings belong to root, whose commands need no capability to write them: one of them names a program
    # that the kernel runs outside.
    arguments += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]
    arguments += ["--dev", "/dev", *size, "--tmpfs", "/dev/shm", *size, "--tmpfs", "/tmp"]
    for mount in sorted(mounts, key=lambda mount: len(mount.target.parts)):
        arguments += ["--bind" if mount.writable else "--ro-bind", str(mount.source), str(mount.target)]
    # What bubblewrap built itself is a file system in memory without a size: nothing may be written into it.
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(start), "--"]


def _machine() -> list[str]:
    """What is seen of the machine's own system."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _TOP:
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return arguments


def _seen(root: Path, mounts: Sequence[Mount]) -> list[str]:
    """What is seen of another system: all of it, as mounts of what is at its top.

    In a read-only mount there is no making a place for another. So where one of `mounts` has no place yet, the
    directories on the way to it are made anew, and what is in them is mounted by itself.
    """
    targets = {mount.target for mount in mounts}
    opened = {Path("/")}
    for target in targets:
        if not _is_place(root, target):
            opened.update(target.parents)
    arguments: list[str] = []
    waiting = [Path("/")]
    while waiting:
        for entry in sorted(os.scandir(root / waiting.pop().relative_to("/")), key=lambda entry: entry.name):
            path = Path("/", Path(entry.path).relative_to(root))
            if path in _OURS:
                continue
            if entry.is_symlink():
                if path not in opened and path not in targets:
                    arguments += ["--symlink", os.readlink(entry.path), str(path)]
            elif path in opened:
                if entry.is_dir():
                    arguments += ["--dir", str(path)]
                    waiting.append(path)
            elif entry.is_dir() or entry.is_file():
                arguments += ["--ro-bind", entry.path, str(path)]
    return arguments


def _is_place(root: Path, target: Path) -> bool:
    """Whether something can be mounted at `target` in the system as it is: a chain of real directories."""
    path = root
    for name in target.parts[1:]:
        path /= name
        if path.is_symlink() or not path.is_dir():
            return False
    return True


def homes(directory: Path, start: Path) -> list[Path]:
    """Where the working directory is in a sandbox whose commands begin in `start`: there, and where it is outside,
    unless one of the two lies in the other.
    """
    apart = not directory.is_relative_to(start) and not start.is_relative_to(directory)
    return [directory, start] if apart else [start]


def mounts(directory: Path, home: Path, record: Path | None, notes: Path | None, project: Path) -> list[Mount]:
    """What is read-only below the working directory, found at `home`, and what of that can be written after all.

    `record` and `notes` lie below `project`; below `directory` they are at the same place.

    Each protected directory is a mount of its own, also where it stays writable: a mount cannot be renamed,
    so its parts cannot be moved out of the way either.
    """
    made: list[Mount] = []
    if record:
        made.append(Mount(source=record, target=home / record.relative_to(project)))
    if notes:
        made.append(Mount(source=notes, target=home / notes.relative_to(project), writable=True))
    git = directory / ".git"
    if git.is_symlink() or not git.exists():
        return made
    inside = [git / "hooks", git / "config"]
    there = home / ".git"
    if not git.is_dir() or any(path.is_symlink() or not path.exists() for path in inside):
        return [*made, Mount(source=git, target=there)]
    inside += [path for name in PLANTABLE if (path := git / name).exists()]
    made.append(Mount(source=git, target=there, writable=True))
    return [*made, *(Mount(source=path, target=there / path.name) for path in inside)]


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
