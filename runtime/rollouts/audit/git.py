"""Git's own words: which subcommand, and which revisions it is asked for.

Owns the reading of a git command line, as far as the detectors need it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runtime.rollouts.audit.command import Command

__all__ = ["HASH", "REMOTE", "VERSION_TAG", "Git"]

HASH = re.compile(r"^(?=[0-9a-f]*\d)[0-9a-f]{7,40}$")  # with a digit: "deadbee" may be a word, and branches have names
REMOTE = re.compile(r"^(?:refs/)?(?:remotes/)?(?:origin|upstream)/|^(?:FETCH_HEAD|refs/pull/)|^pull/\d+")
VERSION_TAG = re.compile(r"^(?:refs/)?(?:tags/.+|[a-z_-]*v?\d+\.\d+(?:\.\d+)*(?:[._-]?(?:rc|a|b|post)\d+)?)$")

_GLOBAL_VALUED = {"-C", "-c", "--git-dir", "--work-tree", "--namespace"}
# Options whose value is a word of its own; `-n` is a number for those that list, and none for cherry-pick.
_VALUED = {"-S", "-G", "--grep", "--author", "--format", "--pretty", "-L", "--since", "--until", "-m", "-b", "-B"}
_LISTING = {"log", "rev-list", "shortlog", "show", "reflog"}
_RANGE = re.compile(r"^(.*?)\.{2,3}(.*)$")
_SUFFIX = re.compile(r"(?:[~^].*|@\{.*\})$")


class Git:
    """One git command. `revisions`: what may be revisions among its words, ranges taken apart at both ends."""

    def __init__(self, command: Command) -> None:
        self.command = command
        words = list(command.argv[1:])
        while words and words[0].startswith("-"):
            words = words[2 if words[0] in _GLOBAL_VALUED else 1 :]
        self.sub = words[0] if words else ""
        self.words = words[1:]

    def has(self, *options: str) -> bool:
        """Any of these options, with a value or without."""
        return any(word == option or word.startswith(option + "=") for word in self.words for option in options)

    def revisions(self, *, excluded: bool = False) -> Iterator[str]:
        """The revisions it looks at; with `excluded` also those that only bound a range, as `a` in `a..b`."""
        skip = False
        for word in self.words:
            if word == "--":
                return
            if skip or word.startswith("-"):
                source = re.match(r"--(?:source|tree-ish)=(.+)", word)
                if source and not skip:
                    yield source[1]
                skip = not skip and (word in _VALUED or (word == "-n" and self.sub in _LISTING))
                continue
            left, dots, right = _RANGE.sub(r"\1 .. \2", word.partition(":")[0]).partition(" .. ")
            ends = [right or "HEAD", *([left] if excluded else [])] if dots else [left]
            for end in ends:
                if end and not end.startswith("^"):
                    yield _SUFFIX.sub("", end)
