"""The attacks, as data: `corpus/*.toml`, a class each, and what must come of them.

Owns the reading of the files and the counting. `blocked` means that nothing happened which the attack wanted; `bounded`
that what did happen ended by itself, in the time, the memory and the output that the limits allow.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["PATH_TOOLS", "Attack", "attacks", "swollen"]

FOLDER = Path(__file__).with_name("corpus")
PATH_TOOLS = ("read_file", "write_file", "list_files", "search")
# Where a text is met: by whoever reads a file, searches it, lists it, or runs a command.
TEXT_WAYS = ("read", "searched", "listed", "printed")
# Where a sender's text stands in a letter.
MAIL_WAYS = ("subject", "body", "sender", "in_reply_to")
# TOML's literal strings have no escapes. In these files, these are read as such; in the others they belong to the text.
_SPELT = {
    "paths": re.compile(r"\\u([0-9a-fA-F]{4})"),
    "mail": re.compile(r"\\u([0-9a-fA-F]{4})|\\([nr])"),
    "text": re.compile(r"\\u([0-9a-fA-F]{4})|\\([nr])"),
    "turns": re.compile(r"()\\(n)"),
}
_LETTERS = {"n": "\n", "r": "\r"}
_SWOLLEN = re.compile(r"«(.*?)\*(\d+)»", re.DOTALL)

Expected = Literal["blocked", "bounded"]


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attacks of one class. A pair is what is tried, and a regular expression for what it must have said."""

    kind: str = msgspec.field(name="class")
    attacks: list[str | tuple[str, str]]
    expect: Expected = "blocked"
    tools: tuple[str, ...] = ()
    timeout_s: float = 20.0
    paths: bool = False


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. `way` is the tool or the place it comes by, where there are several."""

    kind: str
    how: str
    says: str = ""
    way: str = ""
    expect: Expected = "blocked"
    timeout_s: float = 20.0


def attacks(surface: str, *kinds: str) -> list[Attack]:
    """The attacks of `corpus/<surface>.toml`, or only those of the classes `kinds`."""
    return [attack for attack in _read(surface) if not kinds or attack.kind in kinds]


def swollen(text: str) -> str:
    """`text` with each `«piece*count»` written out."""
    return _SWOLLEN.sub(lambda found: found[1] * int(found[2]), text)


def surfaces() -> list[str]:
    """The names of the files."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def _read(surface: str) -> Iterator[Attack]:
    content = tomllib.loads((FOLDER / f"{surface}.toml").read_text("utf-8"))
    for group in msgspec.convert(content["group"], list[Group]):
        for each in group.attacks:
            how, says = (each, "") if isinstance(each, str) else each
            if surface in _SPELT:
                how = _SPELT[surface].sub(lambda found: _letter(found), how)
            for way in _ways(surface, group):
                yield Attack(
                    kind=group.kind, how=how, says=says, way=way, expect=group.expect, timeout_s=group.timeout_s
                )


def _letter(found: re.Match[str]) -> str:
    code, letter = (*found.groups(), None)[:2]
    return _LETTERS[letter] if letter else chr(int(code, 16))


def _ways(surface: str, group: Group) -> tuple[str, ...]:
    if surface == "paths" or group.paths:
        return group.tools or PATH_TOOLS
    if surface == "text":
        return TEXT_WAYS
    return MAIL_WAYS if group.kind == "mail headers" else ("",)
