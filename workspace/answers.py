"""What file operations answer: frozen values, each with a `note` that says in one line what was left out.

Knows nothing of how the answers come about; whoever shows one appends its note.
"""

import msgspec


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """File paths relative to the root, sorted; `more` others exist (at least, where not `complete`)."""

    paths: tuple[str, ...]
    more: int
    complete: bool

    @property
    def note(self) -> str:
        """One line on what is left out, or ""."""
        least = "" if self.complete else "at least "
        if self.more or not self.complete:
            return f"[{least}{self.more} more files; list a directory to see those in it]"
        return ""


class FileText(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a file: `lines` lines after the first `offset_lines`. `next_offset_lines` is None at the file's
    end.
    """

    path: str
    text: str
    size_bytes: int
    offset_lines: int
    lines: int
    next_offset_lines: int | None
    line_cut: bool

    @property
    def note(self) -> str:
        """One line on how to read on, or "" where the whole file was given."""
        if self.next_offset_lines is None:
            return ""
        cut = " (a line too long to show whole; search finds what is in it)" if self.line_cut else ""
        first, last = self.offset_lines + 1, self.offset_lines + self.lines
        return (
            f"[lines {first}-{last}{cut} of {self.path}, {self.size_bytes} bytes in all;"
            f" read on with offset_lines={self.next_offset_lines}]"
        )


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A file that now holds `size_bytes` bytes; `created` tells a new one from one replaced."""

    path: str
    created: bool
    size_bytes: int


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Matching lines as `path:line: text`, in the order of paths, and why there may be more."""

    lines: tuple[str, ...]
    more: bool
    timed_out: bool
    skipped_files: int
    complete: bool

    @property
    def note(self) -> str:
        """One line on what was not searched or shown, or ""."""
        said = []
        if self.more:
            said.append(f"only the first {len(self.lines)} matches are shown: narrow the pattern or the path")
        if self.timed_out:
            said.append("time ran out: simplify the pattern or narrow the path")
        if self.skipped_files:
            said.append(f"{self.skipped_files} binary, unreadable or very large files were skipped")
        if not self.complete:
            said.append("too many files for one search: narrow the path")
        return f"[{'; '.join(said)}]" if said else ""
