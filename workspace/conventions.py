"""What a project tells every agent: its `AGENTS.md`, and the skills that it offers.

Owns the reading of both, and one marked section of `AGENTS.md` that may be rewritten. Invariants: nothing outside the
markers is ever changed, to the byte; a file that is too large, no text, or no regular file is left out and never an
error in the middle of a run; no link is followed. Does not know what a section says.

A skill is a directory `.agents/skills/<any name>/` with a `SKILL.md` whose front matter, between two lines of three
dashes, has `name:` and `description:` on a line each (https://agentskills.io). The rest is for whoever wants it.
"""

import os
import stat
from pathlib import Path

import msgspec

from workspace._disk import replace_file
from workspace.errors import WorkspaceError
from workspace.text import harmless

AGENTS = "AGENTS.md"
SKILLS = ".agents/skills"
BEGIN = "<!-- ramet: begin (written by `ramet init`; anything between these lines is replaced) -->"
END = "<!-- ramet: end -->"
MAX_AGENTS_BYTES = 32_768
"""Of AGENTS.md: it stands in every context. About eight thousand tokens; what is longer is cut, with its path."""
# A description is a line.
_MAX_DESCRIPTION_CHARS = 300
_FENCE = "---"


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """A skill's name, what it is for, and the path of its text relative to the project, with `/`."""

    name: str
    description: str
    path: str


def read_conventions(directory: Path) -> str:
    """The text of AGENTS.md, made harmless; "" where there is none. What is too long is cut, and says so."""
    data = _read(directory / AGENTS, MAX_AGENTS_BYTES)
    if data is None:
        return ""
    text = harmless(data[:MAX_AGENTS_BYTES].decode("utf-8", "replace")).strip()
    return f"{text}\n[cut after {MAX_AGENTS_BYTES} bytes: read {AGENTS}]" if len(data) > MAX_AGENTS_BYTES else text


def find_skills(directory: Path) -> list[Skill]:
    """The project's skills, by the names of their directories. Those without a name or a description are left out."""
    try:
        places = sorted(entry.name for entry in os.scandir(directory / SKILLS) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    found = [_skill(directory, f"{SKILLS}/{place}/SKILL.md") for place in places]
    return [skill for skill in found if skill is not None]


def write_section(directory: Path, text: str) -> Path:
    """Put `text` between the markers of AGENTS.md: in place of what stood there, or at the end of the file.

    Returns the file's path. Raises WorkspaceError where it cannot be read or written, or has one marker alone.
    """
    path = directory / AGENTS
    try:
        old = path.read_bytes() if os.path.lexists(path) else b""
        if path.is_symlink():
            raise WorkspaceError(path, f"{path} is a symbolic link: write the section where it points to")
        replace_file(path, _with_section(old, text, path))
    except OSError as error:
        raise WorkspaceError(path, f"cannot write {path}: {error.strerror}") from error
    return path


def _with_section(old: bytes, text: str, path: Path) -> bytes:
    begin, end = BEGIN.encode(), END.encode()
    # The section cannot end itself early.
    inside = harmless(text).strip().replace(BEGIN, "").replace(END, "").encode()
    section = begin + b"\n" + inside + b"\n" + end
    before, found, rest = old.partition(begin)
    if not found:
        if end in old:
            raise WorkspaceError(
                path, f"{path} has the line {END!r} without the one before it; put that back, or take this out"
            )
        gap = b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n"
        return old + gap + section + b"\n"
    _, closed, after = rest.partition(end)
    if not closed:
        raise WorkspaceError(
            path, f"{path} has the line {BEGIN!r} without the one after it; put that back, or take this out"
        )
    return before + section + after


def _skill(directory: Path, path: str) -> Skill | None:
    data = _read(directory / path, 4_096)
    if data is None:
        return None
    lines = harmless(data.decode("utf-8", "replace")).splitlines()
    if not lines or lines[0].strip() != _FENCE:
        return None
    fields = {}
    for line in lines[1:]:
        if line.strip() == _FENCE:
            break
        name, colon, value = line.partition(":")
        if colon and not name.startswith((" ", "#")):
            fields[name.strip()] = value.strip().strip("'\"")
    name, description = fields.get("name", ""), fields.get("description", "")
    if not name or not description:
        return None
    return Skill(name=name[:64], description=description[:_MAX_DESCRIPTION_CHARS], path=path)


def _read(path: Path, most: int) -> bytes | None:
    """At most `most` bytes and one more of a regular file; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return file.read(most + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError:
        return None
