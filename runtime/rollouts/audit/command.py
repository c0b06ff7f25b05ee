"""One program and its words: what detectors look at.

Owns the form alone. Knows no shell and no tool.
"""

from __future__ import annotations

import msgspec

__all__ = ["Command", "name_of"]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One program and its words, quotes removed. `writes` and `reads`: where it is redirected to and from.

    `body`: what it is fed, or writes: a here-document, the text of a written file. `source`: as it was written.
    """

    argv: tuple[str, ...]
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    body: str = ""
    source: str = ""


def name_of(command: Command) -> str:
    """The program, without its directory; empty for a bare redirection."""
    return command.argv[0].rpartition("/")[2] if command.argv else ""
