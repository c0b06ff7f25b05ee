"""Walks the regular files of a directory tree in the order of their paths, by descriptors, following no link.

Bounded: at most `WALK_ENTRIES` names are looked at and `WALK_DEPTH` directories are open at once. Knows
nothing of what the files are for.
"""

import itertools
import os
import stat
from collections.abc import Collection, Generator
from typing import NamedTuple

# A walk this long takes about a second; a project with more files is searched folder by folder.
WALK_ENTRIES = 200_000
# Each level costs one descriptor of the 1,024 that a process commonly has.
WALK_DEPTH = 64

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """A regular file: its path from the root, and its name in the open directory `parent`."""

    path: str
    parent: int
    name: str


class Walk:
    """One walk. `complete` turns false when something was left out: too many, too deep, or not permitted."""

    def __init__(self, hidden: Collection[str]) -> None:
        self.complete = True
        self._hidden = hidden
        self._entries_left = WALK_ENTRIES

    def files(self, directory: int, prefix: str, depth: int = 0) -> Generator[Entry]:
        """Every regular file below the open `directory`, whose own path is `prefix` ("" or ending in "/").

        Close the iterator when leaving it early: it holds descriptors. An entry's parent is open until the
        next.
        """
        for name, is_directory in self._names(directory):
            if not is_directory:
                yield Entry(prefix + name, directory, name)
                continue
            if depth >= WALK_DEPTH:
                self.complete = False
                continue
            try:
                below = os.open(name, _DIRECTORY, dir_fd=directory)
            except OSError:
                self.complete = False
                continue
            try:
                yield from self.files(below, f"{prefix}{name}/", depth + 1)
            finally:
                os.close(below)

    def _names(self, directory: int) -> list[tuple[str, bool]]:
        """The names to visit with whether each is a directory, ordered so that whole paths come out sorted."""
        try:
            with os.scandir(directory) as entries:
                taken = list(itertools.islice(entries, self._entries_left + 1))
                if len(taken) > self._entries_left:
                    self.complete = False
                    taken = taken[: self._entries_left]
                self._entries_left -= len(taken)
                names = []
                for entry in taken:
                    if entry.name.casefold() in self._hidden:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        names.append((entry.name, True))
                    elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                        names.append((entry.name, False))
        except OSError:
            self.complete = False
            return []
        return sorted(names, key=lambda name: name[0] + "/" * name[1])
