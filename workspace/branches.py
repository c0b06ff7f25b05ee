"""Isolated copies of a working directory: an agent works in its own, and what it changed is merged back.

Owns the file half of an isolated fork. A copy lies in the run's record, `agents/<id>/work/`, so it is in no listing
of the directory it is of. Invariants: it begins as that directory is, uncommitted and untracked files included,
`.ramet` and `.git` excluded; it exists once its manifest does, so an interrupted copy is made again; the user's
repository keeps its branches, index, HEAD and stash, whatever happens here; a merge leaves whatever is in conflict
exactly as it is. Nothing that lies in a copy is run, and no link in it is followed. It does not know what an agent
is, or who reads the results.

Every call blocks: run it in a worker thread. None can be cancelled once begun; a copy takes as long as its bytes.
Merges into one directory must not run at the same time, nor a merge while something writes there: whoever calls sees
to that (names that change meanwhile become conflicts, within a window of microseconds).
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from workspace import _entries, _git
from workspace._copy import Copier, Store
from workspace._disk import delete_tree, replace_file
from workspace._entries import Entry, Kind, beneath, opened, split
from workspace._merge import Collision, Merger
from workspace._snapshot import How, entries_of, make, read_manifest, read_merged, tip
from workspace.errors import BranchFailed, BranchMissing
from workspace.layout import RunLayout
from workspace.merges import Change, Conflict, Merge, Patch
from workspace.text import harmless, harmless_name

SHOWN_CONFLICTS = 10
"""How many conflicts a merge gives with their text; the others only with the file that holds it."""
SHOWN_BYTES = 4096
"""How much of one conflict's text is given: about 1,000 tokens."""


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """One isolated copy, whole. `source` is the directory it is of, `how` how it was made.

    `readable` is what a sandbox must let commands read for the copy to work: its repository, where it is a work tree
    of one. `left_out` names files of the source that were not copied because they could not be read or are no files.
    """

    layout: RunLayout
    agent: str
    source: Path
    how: How
    readable: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """The copy."""
        return self.layout.work(self.agent)


def branch(layout: RunLayout, agent: str, source: Path, *, ignored: bool = False) -> Branch:
    """Make the agent's isolated copy of the directory `source`: the project, or another agent's copy.

    Where `source` is the top of a git repository, the copy is a work tree of it, at the same commit, and files that
    git ignores are left out unless `ignored`; either way they are in no patch and are never merged. Elsewhere, and
    for repositories without a commit or with others inside, it is a plain copy of all files, without the repository.
    Links are copied as they are. If the agent has a copy already, that is returned. Raises BranchFailed; then nothing
    is left, or what `remove` and the next `branch` clean up.
    """
    with contextlib.suppress(BranchMissing):
        return open_branch(layout, agent)
    remove(layout, agent)
    source = source.resolve()
    target = layout.work(agent)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        manifest = make(layout, source, target, ignored=ignored)
        # The copy is what later merges are measured by: files that a power cut emptied would look like changes.
        os.sync()
        replace_file(layout.manifest(agent), msgspec.json.encode(manifest))
    except OSError as error:
        remove(layout, agent)
        raise BranchFailed(source, f"{source} cannot be copied: {error.strerror}") from error
    except BranchFailed:
        remove(layout, agent)
        raise
    return open_branch(layout, agent)


def open_branch(layout: RunLayout, agent: str) -> Branch:
    """The agent's isolated copy, made earlier. Raises BranchMissing, also where its making was interrupted."""
    manifest = read_manifest(layout, agent)
    return Branch(
        layout=layout,
        agent=agent,
        source=Path(_entries.decode(manifest.source)),
        how=manifest.how,
        readable=(Path(_entries.decode(manifest.common)),) if manifest.common else (),
        left_out=tuple(harmless_name(_entries.decode(path)) for path in manifest.left_out),
    )


def changes(branch: Branch) -> Patch:
    """What the copy changed since it was made, with the differences in the agent's `changes.patch`.

    Reads the whole copy. Where git is missing, the file only names the changes. Raises BranchFailed.
    """
    layout, agent = branch.layout, branch.agent
    manifest = read_manifest(layout, agent)
    base = entries_of(manifest)
    with opened(branch.directory) as copy, _scratch(layout, agent) as scratch:
        now = tip(branch.directory, manifest, copy)
        changed = sorted(path for path in {*base, *now} if base.get(path) != now.get(path))
        listed = tuple(
            Change(
                path=harmless_name(path),
                change="added" if path not in base else "deleted" if path not in now else "modified",
            )
            for path in changed
        )
        patch = scratch / "patch"
        try:
            with patch.open("wb") as output:
                if changed:
                    store = Store(layout.base)
                    for side, tree in (("a", base), ("b", now)):
                        (scratch / side).mkdir()
                        with opened(scratch / side) as root:
                            for path in changed:
                                if path in tree:
                                    _lay_out(root, path, tree[path], store if side == "a" else copy)
                    try:
                        _git.diff(scratch, output)
                    except _git.GitFailed as failed:
                        output.truncate(0)
                        output.seek(0)
                        lines = [f"{change.change} {change.path}\n" for change in listed]
                        output.write(f"The differences cannot be shown: {failed}\n{''.join(lines)}".encode())
            patch.replace(layout.patch(agent))
        except OSError as error:
            raise BranchFailed(
                branch.directory, f"{layout.patch(agent)} cannot be written: {error.strerror}"
            ) from error
    return Patch(changes=listed, path=layout.patch(agent))


def merge(branch: Branch, into: Path) -> Merge:
    """Bring the copy's changes into the directory `into`, three-way against what that holds now.

    A file that both sides changed is merged by lines; a name in conflict is left as it is. Merging again brings only
    what changed since. Raises BranchFailed before anything has changed.
    """
    layout, agent = branch.layout, branch.agent
    manifest = read_manifest(layout, agent)
    into = into.resolve()
    store = Store(layout.base)
    merged = read_merged(layout, agent)
    past = merged.setdefault(_entries.encode(str(into)), {})
    base = entries_of(manifest)
    for path, entry in past.items():
        if entry is None:
            base.pop(_entries.decode(path), None)
        else:
            base[_entries.decode(path)] = entry
    with opened(branch.directory) as copy, opened(into) as root, _scratch(layout, agent) as scratch:
        theirs = tip(branch.directory, manifest, copy)
        merger = Merger(copy=copy, into=root, base=base, theirs=theirs, store=store, scratch=scratch)
        outcome = merger.run()
        try:
            for path in (*outcome.applied, *outcome.same):
                settled = theirs.get(path)
                if settled and settled.kind is Kind.FILE:
                    above, name = split(path)
                    with beneath(copy, above) as parent, _entries.regular(parent, name) as descriptor:
                        store.put(descriptor, settled.content)
                past[_entries.encode(path)] = settled
            replace_file(layout.merged(agent), msgspec.json.encode(merged))
            conflicts = _report(layout, agent, outcome.collisions, merger, copy)
        except OSError as error:
            # What was merged is merged; without this record, merging again can at worst call it a conflict.
            reason = f"the merge is done, but its record is not: {error.strerror}"
            conflicts = tuple(Conflict(path=harmless_name(c.path), reason=c.reason) for c in outcome.collisions)
            conflicts = (*conflicts, Conflict(path=str(layout.relative(layout.agent(agent))), reason=reason))
    return Merge(applied=tuple(harmless_name(path) for path in outcome.applied), conflicts=conflicts)


def remove(layout: RunLayout, agent: str) -> None:
    """Delete the agent's isolated copy, whole or half-made, with its registration in the repository. Idempotent.

    Its patch and its conflicts stay. Raises BranchFailed where something cannot be deleted.
    """
    target = layout.work(agent)
    try:
        # First: without it there is no copy, so one that is half deleted is never taken for one.
        layout.manifest(agent).unlink(missing_ok=True)
        layout.merged(agent).unlink(missing_ok=True)
        for path in [target, *layout.agent(agent).glob(".scratch-*")]:
            delete_tree(path)
    except OSError as error:
        raise BranchFailed(target, f"{target} cannot be deleted: {error.strerror}") from error
    _git.remove_worktree(layout.directory, target)


def _lay_out(root: int, path: str, entry: Entry, contents: Store | int) -> None:
    """Make `path` below the open `root` what `entry` says, from the store or the open copy. Raises OSError."""
    above, name = split(path)
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(beneath(root, above, create=True))
        if entry.kind is Kind.LINK:
            os.symlink(_entries.decode(entry.content), name, dir_fd=target)
        if entry.kind is not Kind.FILE:
            return
        if isinstance(contents, Store):
            source = stack.enter_context(contents.get(entry.content))
        else:
            parent = stack.enter_context(beneath(contents, above))
            source = stack.enter_context(_entries.regular(parent, name))
        made = os.open(
            name,
            os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
            0o700 if entry.executable else 0o600,
            dir_fd=target,
        )
        stack.callback(os.close, made)
        if source is not None:
            Copier().copy(source, made)


def _report(
    layout: RunLayout, agent: str, collisions: list[Collision], merger: Merger, copy: int
) -> tuple[Conflict, ...]:
    """Write down each conflict whole, in place of those of an earlier merge. Raises OSError."""
    place = layout.conflicts(agent)
    delete_tree(place)
    if collisions:
        place.mkdir()
    reported = []
    for number, collision in enumerate(collisions, start=1):
        text, file = "", None
        merged = merger.text(collision, f"{agent}'s copy")
        if merged:
            file = place / f"{number}.txt"
            merged.replace(file)
            if number <= SHOWN_CONFLICTS:
                text = _shown(file)
        elif collision.theirs and collision.theirs.kind is Kind.FILE:
            file = place / f"{number}.theirs"
            above, name = split(collision.path)
            with opened(place) as target, beneath(copy, above) as parent, _entries.regular(parent, name) as source:
                Copier().copy_file(source, target, file.name)
        reported.append(
            Conflict(path=harmless_name(collision.path), reason=harmless_name(collision.reason), text=text, file=file)
        )
    return tuple(reported)


def _shown(file: Path) -> str:
    with file.open("rb") as whole:
        data = whole.read(SHOWN_BYTES + 1)
    if len(data) <= SHOWN_BYTES:
        return harmless(data.decode("utf-8", "replace"))
    start = data[:SHOWN_BYTES].decode("utf-8", "ignore")
    return harmless(f"{start}\n[cut here: {file.stat().st_size} bytes in all]\n")


@contextlib.contextmanager
def _scratch(layout: RunLayout, agent: str) -> Iterator[Path]:
    """An empty directory beside the copy, on the same disk, and deleted after. Raises BranchFailed."""
    home = layout.agent(agent)
    try:
        made = Path(tempfile.mkdtemp(prefix=".scratch-", dir=home))
    except OSError as error:
        raise BranchFailed(home, f"{home} cannot be written: {error.strerror}") from error
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            delete_tree(made)
