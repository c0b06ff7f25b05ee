"""A model's file operations, confined to one directory tree.

Owns what a model may see and change. Invariants: nothing outside the root is read, written or named, whatever
links and renames happen meanwhile; a protected directory is written only where it was declared writable;
every answer is bounded; text that is given out is harmless to a terminal. It does not know which model asks,
or what a token is.

Every call blocks: run it in a worker thread. A call cannot be cancelled once begun; the longest, `search`,
ends at its deadline. Writes are atomic but not synced: they are as durable as those of the shell commands
beside them.
"""

import codecs
import contextlib
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from workspace import _beneath, _contents
from workspace._search import search_files
from workspace._walk import Entry, Walk
from workspace.answers import FileText, Listing, SearchResult, Written
from workspace.errors import FileRefused
from workspace.layout import RAMET, RunLayout
from workspace.text import harmless, harmless_name

# Not shown unless a path names them, and never written unless declared writable: the run's own record, and
# the files through which a repository runs commands for its user (hooks, configuration). At any depth, in any
# case.
PROTECTED = (RAMET, ".git")

LIST_LIMIT = 1000
"""Paths in one listing: about 10,000 tokens."""
LIST_CHARS = 262_144
"""Characters in one listing, and of the matching lines of a search: a path alone can have sixteen thousand."""
READ_BYTES = 32_768
"""Bytes in one reading, about 8,000 tokens; what a model does not ask for it can still ask for."""
READ_BYTES_MOST = 1 << 20
"""The most that one reading gives, however much is asked for."""
SKIP_BYTES = 64 << 20
"""How far into a file a line can be asked for: finding it means reading all before it."""
WRITE_BYTES = 16 << 20
"""The largest text written at once: far more than a model can say in one turn."""
SEARCH_LIMIT = 200
"""Matching lines in one answer."""
SEARCH_FILE_BYTES = 16 << 20
"""Larger files are not searched; they are counted as skipped."""
SEARCH_DEADLINE_S = 5.0
"""How long a search may take, the time for a pattern that backtracks without end included."""


class FileTree:
    """The files below `root`. Holds no descriptor between calls; safe to use from several threads."""

    def __init__(
        self,
        root: Path | str,
        *,
        writable: Sequence[str] = (),
        protected: Sequence[str] = PROTECTED,
        project: Path | None = None,
    ) -> None:
        """`writable` lists directories, relative to the root, that may be written although they are
        protected. With `project`, of which the root is an isolated copy, `.ramet` means the project's.
        """
        self.root = Path(root).resolve()
        self._project = project or self.root
        self._writable = tuple(tuple(path.split("/")) for path in writable)
        self._protected = frozenset(name.casefold() for name in protected)

    @classmethod
    def of_run(cls, layout: RunLayout, *, directory: Path | None = None) -> Self:
        """The tree of a run's agents: they write the project, or their isolated copy of it at `directory`, and
        the run's notes. The same paths name the same things in both.
        """
        writable = (layout.relative(layout.notes),)
        return cls(directory or layout.directory, writable=writable, project=layout.directory)

    def list(self, path: str = ".", *, limit: int = LIST_LIMIT) -> Listing:
        """The files at and below `path`, at most `limit` of them. Raises FileError.

        Links and other irregular files are not listed. Counts no further than the first 200,000 names.
        """
        walk = Walk(self._protected)
        paths: list[str] = []
        more, room = 0, LIST_CHARS
        with self._entries(path, walk) as entries:
            for entry in entries:
                room -= len(entry.path)
                if len(paths) < limit and room >= 0:
                    paths.append(harmless_name(entry.path))
                else:
                    more += 1
        return Listing(paths=tuple(paths), more=more, complete=walk.complete)

    def read(self, path: str, *, offset_lines: int = 0, limit_bytes: int = READ_BYTES) -> FileText:
        """The file's text from line `offset_lines` (from 0) on, cut at the last whole line in `limit_bytes`.

        Bytes that are not UTF-8 come out as U+FFFD. A single line longer than the limit is cut and the rest
        of it passed over. Raises FileError.
        """
        offset_lines = max(0, offset_lines)
        limit_bytes = min(max(1, limit_bytes), READ_BYTES_MOST)
        *above, name = _beneath.split(self.root, path) or (".",)
        with (
            _beneath.directory(self._base(above), above) as parent,
            _beneath.regular(parent, name, path) as (descriptor, status),
        ):
            data = _contents.from_line(descriptor, offset_lines, limit_bytes + 1, SKIP_BYTES, path)
        cut = len(data) > limit_bytes
        if cut:
            data = data[: data.rfind(b"\n", 0, limit_bytes) + 1] or data[:limit_bytes]
        ends_whole = data.endswith(b"\n")
        line_cut = cut and not ends_whole
        lines = data.count(b"\n") + (bool(data) and not ends_whole)
        # A cut may fall inside a character; its first bytes are no error of the file, so they are left out.
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(data, final=not line_cut)
        return FileText(
            path=path,
            text=harmless(text),
            size_bytes=status.st_size,
            offset_lines=offset_lines,
            lines=lines,
            next_offset_lines=offset_lines + lines if cut else None,
            line_cut=line_cut,
        )

    def write(self, path: str, text: str) -> Written:
        """Make the file hold `text`, at once, with the directories above it. Keeps the mode of a file it replaces.

        Raises FileError, then nothing has changed but that directories may have been made.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise FileRefused(path, f"the text for {path} is not valid Unicode") from None
        if len(data) > WRITE_BYTES:
            raise FileRefused(path, f"too large to write at once: {len(data)} bytes, at most {WRITE_BYTES}")
        parts = _beneath.split(self.root, path)
        self._refuse_protected(parts, path)
        *above, name = parts or (".",)
        with _beneath.directory(self._base(above), above, create=True) as parent:
            old = _beneath.status_of(parent, name, path)
            if old:
                _beneath.refuse_irregular(old, path)
                if not old.st_mode & 0o222:
                    raise FileRefused(path, f"{path} is read-only")
            _contents.replace(parent, name, data, path, mode=stat.S_IMODE(old.st_mode) if old else None)
        return Written(path="/".join(parts), created=old is None, size_bytes=len(data))

    def search(
        self,
        pattern: str,
        path: str = ".",
        *,
        limit: int = SEARCH_LIMIT,
        deadline_s: float = SEARCH_DEADLINE_S,
    ) -> SearchResult:
        """The lines at and below `path` in which the regular expression `pattern` (Python's) is found.

        At most `limit` lines, found within `deadline_s` seconds: the pattern runs in a process of its own,
        which is killed then, so even one that backtracks without end stops there. Long lines are shown around
        their match. Raises FileError.
        """
        limit = max(1, limit)
        walk = Walk(self._protected)
        searched: list[str] = []
        skipped = 0

        def texts(entries: Iterator[Entry]) -> Iterator[bytes]:
            nonlocal skipped
            for entry in entries:
                data = _contents.searchable(entry.parent, entry.name, SEARCH_FILE_BYTES)
                if data is None:
                    skipped += 1
                    continue
                searched.append(harmless_name(entry.path))
                yield data

        with self._entries(path, walk) as entries:
            found = search_files(pattern, texts(entries), most=limit, deadline_s=deadline_s)
        shown: list[str] = []
        room = LIST_CHARS
        for match in found.matches[:limit]:
            line = f"{searched[match.file]}:{match.line}: {harmless(match.text)}"
            room -= len(line)
            if room < 0:
                break
            shown.append(line)
        return SearchResult(
            lines=tuple(shown),
            more=len(found.matches) > len(shown),
            timed_out=found.timed_out,
            skipped_files=skipped,
            complete=walk.complete,
        )

    @contextlib.contextmanager
    def _entries(self, path: str, walk: Walk) -> Iterator[Iterator[Entry]]:
        """The regular files at and below `path`; their parents' descriptors are open meanwhile."""
        parts = _beneath.split(self.root, path)
        if parts:
            with _beneath.directory(self._base(parts), parts[:-1]) as parent:
                status = _beneath.status_of(parent, parts[-1], path)
                if status and stat.S_ISREG(status.st_mode):
                    yield iter([Entry("/".join(parts), parent, parts[-1])])
                    return
        prefix = "".join(f"{name}/" for name in parts)
        with (
            _beneath.directory(self._base(parts), parts) as start,
            contextlib.closing(walk.files(start, prefix)) as entries,
        ):
            yield entries

    def _base(self, parts: Sequence[str]) -> Path:
        """The directory in which these components are looked up."""
        return self._project if parts[:1] and parts[0] == RAMET else self.root

    def _refuse_protected(self, parts: Sequence[str], path: str) -> None:
        for area in self._writable:
            if len(parts) > len(area) and tuple(parts[: len(area)]) == area:
                parts = parts[len(area) :]
                break
        for name in parts:
            if name.casefold() in self._protected:
                areas = ", ".join("/".join(area) for area in self._writable)
                hint = f" (but for {areas})" if areas else ""
                raise FileRefused(path, f"not writable: {path}: {name} is read-only{hint}")
