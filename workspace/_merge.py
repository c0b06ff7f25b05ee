"""Merges one directory tree into another, three-way, name by name: what can be taken is, and nothing is overwritten.

Owns what a merge decides (pure) and how it is carried out. Invariants: a name that is in conflict is left exactly as
it is; a file appears or is replaced whole, at once, and only while it still is what the decision was made on; nothing
is written through a link, into `.git` or into `.ramet`; nothing of either tree is run. A merge that is cut off
anywhere can be repeated. It does not know where trees come from, or who is told of conflicts.
"""

import contextlib
import enum
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from workspace import _entries, _git
from workspace._copy import Copier, Store, temporary
from workspace._entries import Entry, Kind, beneath, look, split

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_CHANGED = "it changed while it was being merged"


class Action(enum.Enum):
    """What is to be done about a name: nothing, take the copy's side, put both sides together, or refuse."""

    NOTHING = enum.auto()
    TAKE = enum.auto()
    COMBINE = enum.auto()
    REFUSE = enum.auto()


class Refused(Exception):
    """Why a name is in conflict. Never leaves this floor."""


class Collision(NamedTuple):
    """A name in conflict: why, and what each side has."""

    path: str
    reason: str
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None


class Outcome(NamedTuple):
    """What came of a merge: names changed, names that were already as wanted, and names in conflict."""

    applied: list[str]
    same: list[str]
    collisions: list[Collision]


def decide(base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Action:
    """What to do about a name that is `base` in both sides' past. Symmetric but for which side is written."""
    if theirs is not None and theirs.kind is Kind.UNREADABLE:
        return Action.REFUSE
    if ours == theirs or theirs == base:
        return Action.NOTHING
    if ours == base:
        return Action.TAKE
    sides = (ours, theirs) if base is None else (base, ours, theirs)
    if all(entry is not None and entry.kind is Kind.FILE for entry in sides):
        return Action.COMBINE
    return Action.REFUSE


def _is_unsafe(path: str, entry: Entry) -> bool:
    return entry.kind is Kind.LINK and leads_out(path, _entries.decode(entry.content))


def leads_out(path: str, target: str) -> bool:
    """Whether a link at `path` to `target` could lead out of the tree, or into what is not the tree's.

    `..` may only come first: after a name that is itself a link, it would go up from somewhere else.
    """
    if target.startswith("/"):
        return True
    parts = PurePosixPath(target).parts
    ups = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    above = split(path)[0]
    inside = [*above[: len(above) - ups], *parts[ups:]]
    return ups > len(above) or ".." in parts[ups:] or _entries.is_protected("/".join(inside) or "x")


class Merger:
    """One merge of the open tree `copy` into the open tree `into`, with `base` in both pasts and `theirs` in the
    copy.

    `scratch` is an empty directory for its use.
    """

    def __init__(
        self,
        *,
        copy: int,
        into: int,
        base: Mapping[str, Entry],
        theirs: Mapping[str, Entry],
        store: Store,
        scratch: Path,
    ) -> None:
        self._copy = copy
        self._into = into
        self._base = base
        self._theirs = theirs
        self._store = store
        self._scratch = scratch
        changed = sorted(path for path in {*base, *theirs} if base.get(path) != theirs.get(path))
        self._changed = changed
        self._ours = {path: look(into, path) for path in changed}
        self._refused: dict[str, str] = {}

    def run(self) -> Outcome:
        """Carry it out. Blocks for as long as the changed files take to read and write. Raises BranchFailed."""
        actions = {
            path: decide(self._base.get(path), self._side(path), self._theirs.get(path)) for path in self._changed
        }
        self._refuse(actions)
        applied = []
        # Deletions first: a file may make room for a directory, or the other way round.
        for path in sorted(self._changed, key=lambda path: path in self._theirs):
            if path in self._refused or actions[path] is Action.NOTHING:
                continue
            try:
                self._apply(path, actions[path])
            except Refused as refused:
                self._refused[path] = str(refused)
            except OSError as error:
                self._refused[path] = f"it could not be written: {error.strerror}"
            else:
                applied.append(path)
        same = [path for path in self._changed if actions[path] is Action.NOTHING and path not in self._refused]
        collisions = [
            Collision(path, reason, self._base.get(path), self._ours[path], self._theirs.get(path))
            for path, reason in sorted(self._refused.items())
        ]
        return Outcome(sorted(applied), same, collisions)

    def text(self, collision: Collision, label: str) -> Path | None:
        """A scratch file with both sides of a conflict between markers; None where they are no text."""
        path, _, base, ours, theirs = collision
        if any(side is not None and side.kind is not Kind.FILE for side in (ours, theirs)):
            return None
        labels = [
            "the working directory" + " (deleted)" * (ours is None),
            "before",
            label + " (deleted)" * (theirs is None),
        ]
        with contextlib.suppress(OSError, Refused, _git.GitFailed), self._sides(path, base, ours, theirs):
            merged = self._scratch / "merged"
            with merged.open("wb") as output:
                if not _git.merge_file(self._scratch, ["ours", "base", "theirs"], labels, output):
                    return merged
        return None

    def _side(self, path: str) -> Entry | None:
        """What `into` has to merge at `path`. A directory is in the way of a file, but is not one."""
        ours = self._ours[path]
        return None if ours and ours.kind is Kind.DIRECTORY else ours

    def _refuse(self, actions: Mapping[str, Action]) -> None:
        """Find everything that can be known to be in conflict before anything is changed."""
        for path, action in actions.items():
            theirs = self._theirs.get(path)
            if action is Action.REFUSE:
                self._refused[path] = _why(self._side(path), theirs)
            elif action is not Action.NOTHING and theirs and _is_unsafe(path, theirs):
                self._refused[path] = "it is a link that leads out of the working directory"
        removed = {path for path in actions if actions[path] is Action.TAKE and path not in self._theirs}
        removed -= self._refused.keys()
        for path, action in actions.items():
            if path in self._theirs and path not in self._refused and action is not Action.NOTHING:
                self._make_room(path, removed)

    def _make_room(self, path: str, removed: set[str]) -> None:
        above, _ = split(path)
        for depth in range(1, len(above) + 1):
            ancestor = "/".join(above[:depth])
            entry = look(self._into, ancestor)
            if entry is None or ancestor in removed:
                break
            if entry.kind is not Kind.DIRECTORY:
                self._refused[path] = f"{ancestor} is no directory in the working directory"
                return
        ours = self._ours[path]
        if ours and ours.kind is Kind.DIRECTORY:
            others, directories = _entries.walk(self._into, path, protected=True)
            kept = [name for name in (*others, *directories) if _entries.is_protected(name)]
            if kept or not removed.issuperset(others):
                self._refused[path] = "it is a directory in the working directory, with files of its own"
                # The files there are deleted only to make room for this one.
                for name in removed.intersection(others):
                    self._refused[name] = f"{path}, which is to take its place, is in conflict"
                removed.difference_update(others)

    def _apply(self, path: str, action: Action) -> None:
        base, ours, theirs = self._base.get(path), self._side(path), self._theirs.get(path)
        if theirs is None:
            self._delete(path)
        elif theirs.kind is Kind.LINK:
            self._write_link(path, _entries.decode(theirs.content))
        elif action is Action.TAKE:
            with self._reading(path) as source:
                self._write(path, source, theirs)
        else:
            assert ours is not None
            self._combine(path, base, ours, theirs)

    def _delete(self, path: str) -> None:
        above, name = split(path)
        with beneath(self._into, above) as parent:
            self._check(path)
            os.unlink(name, dir_fd=parent)
        while above:
            entry = look(self._copy, "/".join(above))
            if entry and entry.kind is Kind.DIRECTORY:
                break
            *above, name = above
            try:
                with beneath(self._into, above) as parent:
                    os.rmdir(name, dir_fd=parent)
            except OSError:
                break

    def _write(self, path: str, source: int, entry: Entry) -> None:
        """Make `path` a file that holds what `source` does, which must be what `entry` says."""
        above, name = split(path)
        ours = self._ours[path]
        if ours and ours.kind is Kind.DIRECTORY:
            self._clear(path)
        with (
            beneath(self._into, above, create=True) as parent,
            temporary(parent, 0o777 if entry.executable else 0o666) as (descriptor, made),
        ):
            if Copier().copy(source, descriptor) != entry.content:
                raise Refused(_CHANGED)
            if ours and ours.kind is Kind.FILE:
                mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
                os.fchmod(descriptor, _with_executable(mode, entry.executable))
            if self._side(path) is None:
                self._place_new(parent, made, name, path)
            else:
                self._check(path)
                os.rename(made, name, src_dir_fd=parent, dst_dir_fd=parent)

    def _write_link(self, path: str, target: str) -> None:
        above, name = split(path)
        ours = self._ours[path]
        if ours and ours.kind is Kind.DIRECTORY:
            self._clear(path)
        with beneath(self._into, above, create=True) as parent:
            if self._side(path) is None:
                with _unless_taken():
                    os.symlink(target, name, dir_fd=parent)
                return
            with temporary(parent, 0o600) as (_, made):
                os.unlink(made, dir_fd=parent)
                os.symlink(target, made, dir_fd=parent)
                self._check(path)
                os.rename(made, name, src_dir_fd=parent, dst_dir_fd=parent)

    def _place_new(self, parent: int, made: str, name: str, path: str) -> None:
        """A new name by a hard link: unlike a rename, that cannot replace what somebody else has just made."""
        try:
            with _unless_taken():
                os.link(made, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if look(self._into, path) is not None:
                raise Refused(_CHANGED) from error
            os.rename(made, name, src_dir_fd=parent, dst_dir_fd=parent)

    def _clear(self, path: str) -> None:
        """Remove a directory in which only directories are left."""
        _, directories = _entries.walk(self._into, path)
        for directory in [*sorted(directories, reverse=True), path]:
            above, name = split(directory)
            # The deletions may have removed it already.
            with contextlib.suppress(FileNotFoundError), beneath(self._into, above) as parent:
                os.rmdir(name, dir_fd=parent)

    def _combine(self, path: str, base: Entry | None, ours: Entry, theirs: Entry) -> None:
        executable = theirs.executable if base is None or theirs.executable != base.executable else ours.executable
        if theirs.content in (ours.content, base.content if base else None):
            self._set_executable(path, executable)
        elif base and ours.content == base.content:
            with self._reading(path) as source:
                self._write(path, source, Entry(Kind.FILE, theirs.content, executable))
        else:
            merged = self._scratch / "merged"
            with self._sides(path, base, ours, theirs):
                try:
                    with merged.open("wb") as output:
                        clean = _git.merge_file(self._scratch, ["ours", "base", "theirs"], ["", "", ""], output)
                except _git.GitFailed as failed:
                    reason = f"both sides changed it, and it cannot be merged line by line ({failed})"
                    raise Refused(reason) from failed
                if not clean or base is None:
                    raise Refused(_why(ours, theirs))
                with merged.open("rb", buffering=0) as whole:
                    content = _entries.digest(whole.fileno())
                    whole.seek(0)
                    self._write(path, whole.fileno(), Entry(Kind.FILE, content, executable))

    def _set_executable(self, path: str, executable: bool) -> None:
        above, name = split(path)
        with beneath(self._into, above) as parent, _entries.regular(parent, name) as descriptor:
            self._check(path)
            os.fchmod(descriptor, _with_executable(os.fstat(descriptor).st_mode, executable))

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[int]:
        above, name = split(path)
        with beneath(self._copy, above) as parent, _entries.regular(parent, name) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def _sides(self, path: str, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Iterator[None]:
        """The files `base`, `ours` and `theirs` in the scratch directory; empty for a side without one."""
        above, name = split(path)
        with contextlib.ExitStack() as stack:
            sources: dict[str, tuple[int | None, Entry | None]] = {}
            for side, tree, entry in (("ours", self._into, ours), ("theirs", self._copy, theirs)):
                source = None
                if entry:
                    parent = stack.enter_context(beneath(tree, above))
                    source = stack.enter_context(_entries.regular(parent, name))
                sources[side] = source, entry
            kept = stack.enter_context(self._store.get(base.content)) if base and base.kind is Kind.FILE else None
            if base and kept is None:
                raise Refused("both sides changed it, and what it was before is lost")
            sources["base"] = kept, base
            for side, (source, entry) in sources.items():
                with (self._scratch / side).open("wb+", buffering=0) as file:
                    if source is not None and entry and Copier().copy(source, file.fileno()) != entry.content:
                        raise Refused(_CHANGED)
            yield

    def _check(self, path: str) -> None:
        """Raise Refused unless `path` still is what the decision was made on."""
        if look(self._into, path) != self._ours[path]:
            raise Refused(_CHANGED)


@contextlib.contextmanager
def _unless_taken() -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise Refused(_CHANGED) from None


def _with_executable(mode: int, executable: bool) -> int:
    mode = stat.S_IMODE(mode) & 0o777
    return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111


def _why(ours: Entry | None, theirs: Entry | None) -> str:
    if theirs is not None and theirs.kind is Kind.UNREADABLE:
        return "it cannot be read in the copy"
    if ours is not None and ours.kind in (Kind.SPECIAL, Kind.UNREADABLE):
        return "it is no readable file in the working directory"
    if ours is None:
        return "it was changed in the copy and deleted in the working directory"
    if theirs is None:
        return "it was deleted in the copy and changed in the working directory"
    return "both sides changed it"
