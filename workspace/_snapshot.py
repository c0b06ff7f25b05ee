"""Fills an isolated copy, and says what it began with and what it holds now.

Owns the manifest of a copy, and which files are in one: in a git repository those that git would track, elsewhere
all. Invariant: the manifest is of the bytes that were copied, whatever happened to the source meanwhile. It does not
know about merging.
"""

import contextlib
import os
from pathlib import Path
from typing import Literal

import msgspec

from workspace import _entries, _git
from workspace._copy import Copier, Store
from workspace._decoding import NOT_JSON
from workspace._disk import delete_tree
from workspace._entries import Entry, Kind, beneath, opened, split
from workspace.errors import BranchFailed, BranchMissing
from workspace.layout import RAMET, RunLayout

How = Literal["git worktree", "reflink", "copy"]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a copy began with. Paths are encoded."""

    version: Literal[1] = 1
    source: str
    how: How
    common: str | None
    left_out: list[str]
    entries: dict[str, Entry]


Merged = dict[str, dict[str, Entry | None]]
"""What of a copy has been merged, by the directory it was merged into: from then on, that is both sides' past."""

_manifest_decoder = msgspec.json.Decoder(Manifest)
_merged_decoder = msgspec.json.Decoder(Merged)


def make(layout: RunLayout, source: Path, target: Path, *, ignored: bool) -> Manifest:
    """Fill the new directory `target` and say with what. Raises OSError and BranchFailed."""
    repository = _repository(layout, source)
    with opened(source) as root:
        listed = _begin_work_tree(root, repository, target, ignored=ignored) if repository else None
        if listed is None:
            repository = None
            # A work tree may have been begun.
            delete_tree(target)
            _git.remove_worktree(layout.directory, target)
            target.mkdir()
            files, directories = _entries.walk(root)
            unmerged: list[str] = []
        else:
            files, unmerged = listed
            directories = []
        with opened(target) as copy:
            copier = Copier()
            store = Store(layout.base)
            entries: dict[str, Entry] = {}
            left_out = []
            # With the mount point of the run's record.
            for path in (RAMET, *directories):
                with beneath(copy, path.split("/"), create=True):
                    pass
            for path in sorted({*files}):
                entry = _copy_one(root, copy, path, copier, store)
                if entry:
                    entries[_entries.encode(path)] = entry
                elif (found := _entries.look(root, path)) and found.kind is not Kind.DIRECTORY:
                    left_out.append(_entries.encode(path))
            for path in unmerged:
                _copy_one(root, copy, path, copier, None)
    return Manifest(
        source=_entries.encode(str(source)),
        how="git worktree" if repository else "reflink" if copier.copied and copier.reflinks else "copy",
        common=_entries.encode(str(repository.common)) if repository else None,
        left_out=left_out,
        entries=entries,
    )


def _repository(layout: RunLayout, source: Path) -> _git.Repository | None:
    """The repository that a copy of `source` is to be a work tree of: the project's, or none.

    Any other could be one that a model made.
    """
    repository = _git.repository(source)
    if repository and source != layout.directory:
        home = _git.repository(layout.directory)
        return repository if home and home.common == repository.common else None
    return repository


def _begin_work_tree(
    root: int, repository: _git.Repository, target: Path, *, ignored: bool
) -> tuple[list[str], list[str]] | None:
    """Make `target` a work tree without files, and list those to copy: git's, and those it ignores if `ignored`.

    None where git fails, or there are repositories inside, whose files git would not list.
    """
    try:
        files = [path for path in repository.listed() if not _entries.is_protected(path)]
        if any(_is_repository(root, path) for path in files):
            return None
        others = [path for path in repository.ignored() if _usable(path)] if ignored else []
        repository.add_worktree(target)
    except _git.GitFailed:
        return None
    return files, others


def _is_repository(root: int, path: str) -> bool:
    """Whether git listed a repository inside its own: one that it does not know, or a submodule with its files."""
    if path.endswith("/"):
        return True
    with contextlib.suppress(OSError), beneath(root, path.split("/")) as directory:
        os.stat(".git", dir_fd=directory, follow_symlinks=False)
        return True
    return False


def _usable(path: str) -> bool:
    return not path.endswith("/") and not _entries.is_protected(path)


def _copy_one(root: int, copy: int, path: str, copier: Copier, store: Store | None) -> Entry | None:
    """Copy one name and say what it is; None where it is gone, or nothing that can be copied. Raises OSError."""
    above, name = split(path)
    with contextlib.ExitStack() as stack:
        target_name = None
        try:
            parent = stack.enter_context(beneath(root, above))
            with contextlib.suppress(OSError):
                target_name = os.readlink(name, dir_fd=parent)
            source = None if target_name is not None else stack.enter_context(_entries.regular(parent, name))
        except OSError:
            return None
        target = stack.enter_context(beneath(copy, above, create=True))
        if target_name is not None:
            os.symlink(target_name, name, dir_fd=target)
            return _entries.link(target_name)
        assert source is not None
        entry = _entries.file(copier.copy_file(source, target, name), os.fstat(source).st_mode)
        if store:
            store.put(source, entry.content)
        return entry


def entries_of(manifest: Manifest) -> dict[str, Entry]:
    """What the copy began with, by its paths."""
    return {_entries.decode(path): entry for path, entry in manifest.entries.items()}


def tip(directory: Path, manifest: Manifest, copy: int) -> dict[str, Entry]:
    """What the copy holds now. What it began with is looked at even where git has come to ignore it."""
    listed: list[str] | None = None
    with contextlib.suppress(_git.GitFailed):
        repository = _git.repository(directory)
        if repository and manifest.common == _entries.encode(str(repository.common)):
            listed = repository.listed()
    if listed is None:
        listed, _ = _entries.walk(copy)
    else:
        # A repository that the agent made in its copy is files like any other; git lists only its directory.
        nested = [path.rstrip("/") for path in listed if path.endswith("/")]
        listed = [path for path in listed if _usable(path)]
        for path in nested:
            if not _entries.is_protected(path):
                listed += _entries.walk(copy, path)[0]
    return _entries.look_at(copy, {*listed, *entries_of(manifest)})


def read_manifest(layout: RunLayout, agent: str) -> Manifest:
    path = layout.manifest(agent)
    try:
        return _manifest_decoder.decode(path.read_bytes())
    except FileNotFoundError:
        raise BranchMissing(path, f"{agent} has no isolated copy") from None
    except OSError as error:
        raise BranchFailed(path, f"{path} cannot be read: {error.strerror}") from error
    except NOT_JSON as error:
        raise BranchFailed(path, f"{path} is corrupt: {error}") from error


def read_merged(layout: RunLayout, agent: str) -> Merged:
    path = layout.merged(agent)
    try:
        return _merged_decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BranchFailed(path, f"{path} cannot be read: {error.strerror}") from error
    except NOT_JSON as error:
        raise BranchFailed(path, f"{path} is corrupt: {error}") from error
