"""Which files a command reads and writes.

Owns the tables of programs whose operands are files. Pure; knows no detector.
"""

from __future__ import annotations

import re
from itertools import takewhile

from runtime.rollouts.audit.command import Command, name_of

__all__ = ["changes", "reads", "writes"]

_READERS = (
    *("cat", "less", "more", "head", "tail", "nl", "tac", "bat", "view", "vim", "vi", "nano", "strings", "xxd", "od"),
    *("hexdump", "base64", "diff", "cmp", "jq", "awk", "sed", "grep", "egrep", "rg", "ag", "source", ".", "patch"),
    *("wc", "sort", "uniq", "cut", "tr", "ls"),
)
_FIRST_IS_NO_FILE = {"grep", "egrep", "rg", "ag", "sed", "awk", "jq", "perl", "chmod", "chown"}
_COPIERS = {"cp", "mv", "ln", "rsync", "install", "scp"}
_REMOVERS = {"rm", "truncate", "shred", "unlink"}


def writes(command: Command) -> list[str]:
    """Everything that the command writes, removes or replaces."""
    name, files = name_of(command), _operands(command)
    out = list(command.writes)
    if name == "tee":
        out += files
    elif name == "dd":
        out += [word[3:] for word in command.argv if word.startswith("of=")]
    elif name in _COPIERS:
        target = _option(command, "-t") or (files[-1] if len(files) > 1 else "")
        out += [_into(target, file) for file in files[:-1]] or [target]
    return [path for path in [*out, *changes(command)] if path]


def changes(command: Command) -> list[str]:
    """What it writes that was there before: edited in place or removed."""
    name, files = name_of(command), _operands(command)
    if name == "mv":
        return files[:-1]
    if name in _REMOVERS or (name == "chmod" and not any(word.startswith("+") for word in command.argv[1:])):
        return files
    if name in ("sed", "perl") and any(re.match(r"-[a-zA-Z]*i|--in-place", word) for word in command.argv[1:]):
        return files
    if name == "find" and "-delete" in command.argv:
        return list(takewhile(lambda word: not word.startswith("-"), command.argv[1:]))
    if name == "git" and len(command.argv) > 2:
        return _of_git(command.argv[1], list(command.argv[2:]))
    return []


def _of_git(sub: str, words: list[str]) -> list[str]:
    if sub in ("rm", "mv"):
        return [word for word in words if not word.startswith("-")]
    if sub == "checkout" and "--" in words:
        place = words.index("--")
        revisions = [word for word in words[:place] if not word.startswith("-")]
        return words[place + 1 :] if revisions not in ([], ["HEAD"]) else []  # from HEAD they are only restored
    return []


def reads(command: Command) -> list[str]:
    """What it shows or copies."""
    name, files = name_of(command), _operands(command)
    out = list(command.reads)
    if name in _COPIERS:
        out += files[:-1]
    elif name == "git" and len(command.argv) > 2 and command.argv[1] in ("apply", "am"):
        out += [word for word in command.argv[2:] if not word.startswith("-")]
    elif name in _READERS and not changes(command):
        out += files
    return out


def _operands(command: Command) -> list[str]:
    words = [word for word in command.argv[1:] if not word.startswith("-")]
    scripted = any(word in ("-e", "-f", "--expression") for word in command.argv)
    return words[1:] if name_of(command) in _FIRST_IS_NO_FILE and not scripted else words


def _option(command: Command, name: str) -> str:
    words = command.argv
    return words[words.index(name) + 1] if name in words[:-1] else ""


def _into(target: str, file: str) -> str:
    """Copied into a directory, a file keeps its name."""
    directory = target.endswith("/") or target in (".", "..")
    return f"{target.rstrip('/')}/{file.rpartition('/')[2]}" if directory else target
