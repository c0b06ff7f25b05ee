"""The few git commands that isolated copies need, each bounded in time, none of which runs anything of a
repository's.

Owns the environment in which they run. A repository may be a model's work: hooks and file system monitors are turned
off, nothing is fetched, and no command here checks out, adds or refreshes files, so filters never run either. What
remains trusted is git itself, reading a repository's objects and configuration. The user's own configuration is
read where it says which files are ignored, and not otherwise. Nothing here changes a branch, a tag, the stash, the
index or the HEAD of the user's work tree. It does not know what is copied, or why.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

# Listing a repository of a hundred thousand files takes a second; a disk that hangs must not hang a fork.
_TIMEOUT_S = 60.0
# What a pathological pair of files may cost a merge; then they are a conflict.
_MERGE_TIMEOUT_S = 20.0
# Larger files are not compared line by line: nobody reads that, and it takes memory many times their size.
_MOST_TEXT_BYTES = 16 << 20

_KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
_INERT = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


class GitFailed(Exception):
    """A command was not run, took too long, or failed. Never leaves this floor."""


class Repository(NamedTuple):
    """A work tree that can have further ones. `common` is the repository's own directory, shared by them all."""

    root: Path
    common: Path
    head: str

    def listed(self) -> list[str]:
        """The files that git would track: those in the index and those not ignored. A directory ends in `/`."""
        return _names(self.root, ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])

    def ignored(self) -> list[str]:
        """The files that git ignores."""
        return _names(self.root, ["ls-files", "-z", "--others", "--ignored", "--exclude-standard"])

    def add_worktree(self, target: Path) -> None:
        """Register `target` as a work tree at the same commit, with an index and no files. Raises GitFailed."""
        _run(self.root, ["worktree", "add", "--no-checkout", "--detach", "--quiet", str(target), self.head])
        _run(target, ["read-tree", self.head])


def repository(root: Path) -> Repository | None:
    """The repository whose work tree is exactly `root`; None where that is not so or it has no commit yet."""
    git = root / ".git"
    if git.is_symlink() or not git.exists():
        return None
    try:
        answers = _run(root, ["rev-parse", "--show-toplevel", "--git-common-dir", "--verify", "HEAD^{commit}"])
        top, common, head = os.fsdecode(answers).splitlines()
    except (GitFailed, ValueError):
        return None
    if Path(top) != root:
        return None
    return Repository(root, (root / common).resolve(), head)


def remove_worktree(project: Path, target: Path) -> None:
    """Forget the work tree `target`, whose directory is gone, where the project's repository knows it."""
    if (project / ".git").exists():
        with contextlib.suppress(GitFailed):
            _run(project, ["worktree", "remove", "--force", "--force", str(target)])


def diff(directory: Path, output: IO[bytes]) -> None:
    """Write the differences of the trees `a` and `b` in `directory` to `output`, as a patch. Raises GitFailed.

    Binary files are only named.
    """
    options = ["--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--no-prefix"]
    _isolated(directory, ["diff", "--no-index", *options, "a", "b"], output, _TIMEOUT_S, (0, 1))


def merge_file(directory: Path, names: Sequence[str], labels: Sequence[str], output: IO[bytes]) -> bool:
    """Merge the files `names` (ours, base, theirs) in `directory` into `output`; whether there was no conflict.

    Raises GitFailed where they are not text, or too large.
    """
    if any((directory / name).stat().st_size > _MOST_TEXT_BYTES for name in names):
        raise GitFailed("too large to merge line by line")
    labelled = [word for label in labels for word in ("-L", label)]
    # The exit status counts the conflicts, up to 127; above are errors.
    arguments = ["merge-file", "--stdout", "--diff3", "--quiet", *labelled, *names]
    return _isolated(directory, arguments, output, _MERGE_TIMEOUT_S, range(128)) == 0


def _names(root: Path, arguments: Sequence[str]) -> list[str]:
    return [os.fsdecode(name) for name in _run(root, arguments).split(b"\0") if name]


def _run(directory: Path, arguments: Sequence[str]) -> bytes:
    """What a command in a user's repository says. Raises GitFailed."""
    try:
        done = subprocess.run(
            [_git(), *_INERT, *arguments],
            cwd=directory,
            env=_environment(GIT_OPTIONAL_LOCKS="0"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitFailed(str(error)) from error
    if done.returncode:
        raise GitFailed(done.stderr.decode("utf-8", "replace").strip())
    return done.stdout


def _isolated(
    directory: Path, arguments: Sequence[str], output: IO[bytes], timeout_s: float, accepted: Sequence[int]
) -> int:
    """Run a command that needs no repository so that it finds none, nor anybody's configuration."""
    environment = _environment(
        GIT_CEILING_DIRECTORIES=str(directory.parent), GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1"
    )
    try:
        done = subprocess.run(
            [_git(), "-c", f"core.bigFileThreshold={_MOST_TEXT_BYTES}", *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitFailed(str(error)) from error
    if done.returncode not in accepted:
        raise GitFailed(f"git {arguments[0]} ended with {done.returncode}")
    return done.returncode


def _git() -> str:
    program = shutil.which("git")
    if program is None:
        raise GitFailed("git is not installed")
    return program


def _environment(**more: str) -> dict[str, str]:
    """The process's environment, without what would point git elsewhere or make it ask, fetch or trace."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "none", **more}
