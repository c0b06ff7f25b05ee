"""Shell text as simple commands: `cd a && git log --all | head` is three of them.

Owns the reading, so that detectors look at words and never at a line: `echo "git log --all"` reads no history, and
`sudo bash -c 'git  log  --all'` does. Never raises: text that is no shell is read as far as it goes. Does not know
what a command means, and expands no variable.
"""

from __future__ import annotations

import re
from functools import partial

from msgspec import structs

from runtime.rollouts.audit.command import Command, name_of
from runtime.rollouts.audit.python_code import read_python

__all__ = ["read_shell"]

_DEEPEST = 4  # commands within commands within commands
_QUOTED = 200  # characters of a command that are quoted
_BLANK = " \t\r"
_PLAIN = re.compile(r"[^ \t\r\n;&|<>()'\"\\`$]+")
_OPERATOR = re.compile(r"<<-?(?!<)|\d*(?:>>|>\||>&|<<<|<>|<&|>|<)|&>>?|;;?|&&?|\|\|?&?|[()]")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_DURATION = re.compile(r"[\d.]+[smhd]?$")
_KEYWORDS = {"if", "then", "else", "elif", "do", "while", "until", "!", "{", "time"}
_WRAPPERS = {"sudo", "doas", "env", "nohup", "command", "exec", "stdbuf", "nice", "ionice", "timeout", "xargs"}
_VALUED = {"-n", "-I", "-P", "-L", "-u", "-k", "-s", "-d", "-C", "-g"}  # options of wrappers that take a word
_FED = 20  # words that xargs is seen to pass on
_SCRIPTED = {"node", "deno", "bun", "ruby", "perl", "php"}  # of their code only the addresses are read
_URL = re.compile(r"https?://[^\s'\"`)]+")
_SHELLS = {"bash", "sh", "zsh", "dash", "ash"}
_PYTHON = re.compile(r"python[\d.]*$|ipython$|pypy3?$")


def read_shell(text: str, depth: int = 0) -> list[Command]:
    """The simple commands of a shell text, those within others and their substitutions included."""
    return _Reader(text, depth).read() if depth < _DEEPEST else []


class _Reader:
    """One pass over one text."""

    def __init__(self, text: str, depth: int) -> None:
        self.text, self.depth, self.at = text, depth, 0
        self.found: list[Command] = []
        self.documents = 0  # where the bodies that were read ahead end, 0 if none were
        self.begin()

    def begin(self, piped: str = "") -> None:
        """A command begins; `piped` is what the one before writes into its pipe, as far as that can be seen."""
        self.piped = piped
        self.words: list[str] = []
        self.writes: list[str] = []
        self.reads: list[str] = []
        self.body = ""
        self.start = self.at
        self.target: list[str] | None = None  # what the next word is appended to, after a redirection

    def read(self) -> list[Command]:
        text = self.text
        while self.at < len(text):
            here = text[self.at]
            if here in _BLANK:
                self.at += 1
            elif text.startswith("\\\n", self.at):
                self.at += 2
            elif here == "\n":
                self.end(self.at)
                self.at, self.documents = max(self.at + 1, self.documents), 0
                self.begin()
            elif here == "#":
                self.at = _find(text, "\n", self.at)
            elif match := _OPERATOR.match(text, self.at):
                self.operator(match.group())
            else:
                self.word()
        self.end(self.at)
        return self.found

    def word(self) -> None:
        value, self.at, inner = _word(self.text, self.at)
        for part in inner:
            self.found += read_shell(part, self.depth + 1)
        if self.target is None:
            self.words.append(value)
        else:
            self.target.append(value)
            self.target = None

    def operator(self, sign: str) -> None:
        begin, self.at = self.at, self.at + len(sign)
        kind = sign.lstrip("0123456789")
        if kind.startswith("<<") and kind != "<<<":
            self.document()
        elif kind == "<<<":
            self.body, self.at, _ = _word(self.text, self.blank())
        elif kind[0] in "<>" or kind.startswith("&>"):
            duplicates = kind.endswith("&") and self.text[self.at : self.at + 1] in "0123456789-"
            if self.text.startswith("(", self.at):
                return  # a process substitution: its commands are read as they come
            self.target = [] if duplicates else self.writes if ">" in kind else self.reads
        else:
            said = self.end(begin)
            self.begin(said if kind in ("|", "|&") else "")

    def blank(self) -> int:
        """Where the blanks end that begin here."""
        at = self.at
        while at < len(self.text) and self.text[at] in _BLANK:
            at += 1
        return at

    def document(self) -> None:
        tag, self.at, _ = _word(self.text, self.blank())
        begin = self.documents or _find(self.text, "\n", self.at) + 1
        match = re.compile(rf"^[ \t]*{re.escape(tag)}[ \t]*$", re.MULTILINE).search(self.text, begin)
        stop, self.documents = (match.start(), match.end() + 1) if match else (len(self.text), len(self.text))
        self.body = self.text[begin:stop]

    def end(self, stop: int) -> str:
        """The command is over; returns what it writes, where that can be seen."""
        words = self.words
        while words and (words[0] in _KEYWORDS or _ASSIGNMENT.match(words[0])):
            words = words[1:]
        if not words and not self.writes:
            return ""
        command = Command(
            argv=tuple(words),
            writes=tuple(self.writes),
            reads=tuple(self.reads),
            body=self.body or self.piped,
            source=self.text[self.start : stop].strip()[:_QUOTED],
        )
        self.found += _unwrapped(command, self.depth)
        said = command.body if words[:1] == ["cat"] else ""
        if words[:1] in (["echo"], ["printf"]):
            said = " ".join(words[1:])
        if command.writes and said and not self.body:
            self.found[-1] = structs.replace(self.found[-1], body=said)
        return said


def _unwrapped(command: Command, depth: int) -> list[Command]:
    """The command and those that it starts; of `sudo x` only x."""
    words = list(command.argv)
    while words and words[0].rpartition("/")[2] in _WRAPPERS:
        passed = command.body.split()[:_FED] if words[0] == "xargs" else []
        words = _operands(words[1:]) + passed
    command = structs.replace(command, argv=tuple(words))
    name, inner = name_of(command), list[Command]()
    if name in _SHELLS or name == "eval":
        script = _after_option(words, "c") if name in _SHELLS else " ".join(words[1:])
        fed = command.body if name in _SHELLS and all(word.startswith("-") for word in words[1:]) else ""
        inner = read_shell(script or fed, depth + 1)
    elif _PYTHON.match(name):
        code = _after_option(words, "c")
        fed = command.body if all(word.startswith("-") for word in words[1:]) else ""
        inner = read_python(code or fed, partial(read_shell, depth=depth + 1))
    elif name in _SCRIPTED:
        urls = _URL.findall(_after_option(words, "e") + command.body)
        inner = [Command(argv=("curl", url)) for url in urls]
    elif name == "find":
        for place, word in enumerate(words):
            if word in ("-exec", "-execdir", "-ok"):
                rest = [one for one in words[place + 1 :] if one not in (";", "+", "{}")]
                inner += _unwrapped(Command(argv=tuple(rest), source=command.source), depth + 1)
    inner = [structs.replace(one, source=one.source or command.source) for one in inner]
    return [*inner, command]


def _operands(words: list[str]) -> list[str]:
    """What a wrapper runs: without its options, assignments and duration."""
    while words:
        if words[0] in _VALUED:
            words = words[2:]
        elif words[0].startswith("-") or _ASSIGNMENT.match(words[0]) or _DURATION.match(words[0]):
            words = words[1:]
        else:
            break
    return words


def _after_option(words: list[str], letter: str) -> str:
    """The word after `-c`, or after options like `-lc` that end with it."""
    for place, word in enumerate(words[1:-1], 1):
        if word.startswith("-") and not word.startswith("--") and word.endswith(letter):
            return words[place + 1]
        if not word.startswith("-"):
            return ""
    return ""


def _word(text: str, at: int) -> tuple[str, int, list[str]]:
    """The word at `at`, where it ends, and the command texts that it substitutes."""
    out: list[str] = []
    inner: list[str] = []
    while at < len(text):
        if match := _PLAIN.match(text, at):
            out.append(match.group())
            at = match.end()
            continue
        here = text[at]
        if here == "'":
            stop = _find(text, "'", at + 1)
            out.append(text[at + 1 : stop])
            at = stop + 1
        elif here == '"':
            piece, at = _double(text, at + 1, inner)
            out.append(piece)
        elif here == "\\":
            out.append(text[at + 1 : at + 2].strip("\n"))
            at += 2
        elif here in "`$":
            piece, at = _substitution(text, at, inner)
            out.append(piece)
        else:
            break
    return "".join(out), at, inner


def _double(text: str, at: int, inner: list[str]) -> tuple[str, int]:
    out: list[str] = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            out.append(text[at + 1 : at + 2] if text[at + 1 : at + 2] in '"\\$`' else text[at : at + 2])
            at += 2
        elif text[at] in "`$":
            piece, at = _substitution(text, at, inner)
            out.append(piece)
        else:
            out.append(text[at])
            at += 1
    return "".join(out), at + 1


def _substitution(text: str, at: int, inner: list[str]) -> tuple[str, int]:
    """A `$`, or a substitution, whose text goes to `inner`; its value is unknown."""
    if text[at] == "`":
        stop = _find(text, "`", at + 1)
        inner.append(text[at + 1 : stop])
    elif text.startswith("$(", at):
        stop = _closing(text, at + 2)
        inner.append(text[at + 2 : stop])
    else:
        return "$", at + 1
    return "$()", stop + 1


def _closing(text: str, at: int) -> int:
    """Where the parenthesis that was opened before `at` is closed."""
    open_ = 1
    while at < len(text):
        if text[at] == "'":
            at = _find(text, "'", at + 1)
        elif text[at] == "\\":
            at += 1
        else:
            open_ += (text[at] == "(") - (text[at] == ")")
            if open_ == 0:
                return at
        at += 1
    return len(text)


def _find(text: str, what: str, at: int) -> int:
    found = text.find(what, at)
    return len(text) if found < 0 else found
