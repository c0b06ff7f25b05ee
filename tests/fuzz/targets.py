"""What is fuzzed: each target is a strategy for inputs, and a function that must not raise whatever it is given.

A target raises nothing of its own: the refusals that its callers expect are caught in it, by name; anything else is a
finding. Inputs are mostly pieces of what is valid, in the wrong places: those get further than noise.
"""

# ruff: noqa: E501, PT017 - lists of pieces are read across; refusals are caught by name, and looked at
from __future__ import annotations

import functools
import json
import operator
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from agents.chat import Call, Chat, ChatError
from agents.context import Origin, Segment
from agents.host import ToolRefused
from agents.tools import TOOLS, read_call
from agents.tools.calc import calculate
from runtime.cli._options import read_budget, read_limits, read_task
from runtime.errors import BadInput
from runtime.recorder import load
from tests.support import SPECIAL, STRUCTURAL, tiny_chat, tiny_model
from workspace import JournalCorrupt, RunLayout, find_skills, read_conventions
from workspace._letters import Malformed, parse, render

__all__ = ["HOLE", "TARGETS", "Target"]


class Target(NamedTuple):
    """`run` takes what `inputs` gives. `read_as`: what it is, where it is text or bytes that somebody else may write."""

    inputs: st.SearchStrategy[Any]
    run: Callable[[Any], None]
    read_as: type[str] | type[bytes] | None = None
    pieces: Sequence[str | bytes] = ()  # which whoever mutates it may put in


NUMBERS = st.integers() | st.integers(-(10**40), 10**40) | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted({field for tool in TOOLS.values() for field in tool.__struct_fields__})
NAMES = st.sampled_from(sorted(TOOLS)) | st.text(max_size=12)
ARGUMENTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), JSON, max_size=5)


@functools.cache
def _home() -> Path:
    """A directory of this process's own, for inputs that are files."""
    return Path(tempfile.mkdtemp(prefix="ramet-fuzz-"))


# -- the tool-call path -------------------------------------------------------------------------------------------

PIECES = [
    *SPECIAL, *STRUCTURAL, "\n", '{"name": "calc", "arguments": {"expression": "1"}}', '{"name": "', '"arguments": ', "{", "}", "[", "]",
    '"', "\\ud800", "\\u0000", "1e999", "NaN", "-0", "null", '{"name": "shell", "arguments": {"command": "x"}}', "[" * 1200, "9" * 5000,
]  # fmt: skip
SPOKEN = st.lists(
    st.sampled_from(PIECES)
    | st.text(max_size=8)
    | st.builds(lambda name, said: json.dumps({"name": name, "arguments": said}), NAMES, ARGUMENTS),
    max_size=8,
).map("".join)


@functools.cache
def _root() -> Segment:
    return Segment(1, None, Origin.GIVEN, tiny_chat().begin("s", "u"))


def read_turn(said: str | list[int]) -> None:
    """Tokens are parsed, every call is read or refused in words, and the context goes on after it."""
    chat = tiny_chat()
    tokens = chat.tokenizer.encode(said) if isinstance(said, str) else said
    ends = [index for index, token in enumerate(tokens) if token in chat.stop_token_ids]
    tokens = tokens[: ends[0] + 1] if ends else tokens  # an engine samples nothing after it
    head = Segment(2, _root(), Origin.SAMPLED, tokens or [0])
    told = []
    for call in chat.parse(head).calls:
        try:
            told.append(read_call(call, TOOLS).summary())
        except ToolRefused as refusal:
            told.append(str(refusal))
    for text in told:
        text.encode()
    chat.extend(head, told or ["go on"])


def read_arguments(given: tuple[str, dict[str, Any]]) -> None:
    """Any JSON as the arguments of any tool is a tool, or a refusal."""
    try:
        read_call(Call(name=given[0], arguments=given[1]), TOOLS).summary()
    except ToolRefused as refusal:
        assert len(str(refusal)) < 2_000


def calculated(expression: str) -> None:
    """Any text is a value or a refusal."""
    try:
        calculate(expression, {"a2": ["12"], "results": ["12", "30"]}.get)
    except ToolRefused:
        return


SIGNS = [
    "1", "2.5", "10**9", "+", "-", "*", "/", "//", "%", "**", "(", ")", ",", "results", "a2", "sum(", "max(", "round(", ">", "[", "]", " ", "1e9", "'",
]  # fmt: skip
SUMS = st.lists(st.sampled_from(SIGNS) | st.text(max_size=3), max_size=20).map("".join)

# -- files that somebody else may have written --------------------------------------------------------------------

RUN = "20261124-081501-k3f9"
HEADERS = [
        b"From: a1@20261124-081501-k3f9\n", b"From:", b"To: a2, a3\n", b"Subject: =?utf-8?q?=0A?=\n", b"Message-ID: <x@y>\n", b"\n", b"\r\n", b"\n\n", b" folded\n",
        b"Content-Type: multipart/mixed; boundary=b\n", b"--b\n", b"--b--\n", b"Content-Type: text/plain; charset=", b"utf-8", b"utf-7", b"\xff\xfe", b"idna",
        b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n", b"x-uuencode", b"=?", b"?=", b"\x00", b"\xef\xbb\xbf", b"charset*0=a;",
        b"Content-Type: message/rfc822\n\n", b"charset*=b;",
]  # fmt: skip
MAIL = st.lists(st.sampled_from(HEADERS) | st.binary(max_size=12), max_size=14).map(b"".join)


def read_letter(data: bytes) -> None:
    """Any bytes are a letter or malformed, and a letter can be written again and read as the same."""
    try:
        letter = parse(data, RUN)
    except Malformed:
        return
    letter = msgspec.structs.replace(letter, id="a1-s1-1", to=("a2",))
    again = parse(render(letter, RUN), RUN)
    assert (again.sender, again.subject, again.to) == (letter.sender or "unknown", letter.subject, letter.to)


def _run() -> list[tuple[str, dict[str, object]]]:
    """The journal of a small run with all that the state keeps, as objects."""
    lead, copies = "a1", [{"agent": f"a{n}", "segment": n + 1, "tokens": [5], "task": "t"} for n in (2, 3)]
    turn = {"logprobs": [-0.5], "finish": "stop", "prompt_tokens": 3, "cached_tokens": 0}
    return [
        ("opened", {"version": 1, "run": RUN, "settings": {}}),
        ("started", {"agent": lead, "segment": 1, "tokens": [1, 2, 3], "task": "t"}),
        ("sampled", {"agent": lead, "segment": 2, "tokens": [4], **turn}),
        ("callstarted", {"agent": lead, "index": 0, "name": "fork"}),
        ("forked", {"agent": lead, "segment": 2, "copies": copies, "called_by": 2}),
        ("sampled", {"agent": "a2", "segment": 5, "tokens": [6], **turn}),
        ("ended", {"agent": "a2", "outcome": "finished", "result": "r"}),
        ("warmed", {"agent": "a3", "segment": 2, "prompt_tokens": 4, "cached_tokens": 3}),
        ("callended", {"agent": lead, "index": 0, "reply": {"text": "x", "told": ["a2"], "did": "d"}}),
        ("given", {"agent": lead, "segment": 6, "tokens": [7], "told": ["a2"], "mail": ["m"]}),
        ("rewound", {"agent": lead, "to": 1, "segment": 7, "tokens": [8]}),
        ("succeeded", {"agent": lead, "segment": 8, "tokens": [9]}),
        (
            "started",
            {"agent": "a4", "segment": 9, "tokens": [1], "task": "t", "parent": lead, "tasks": ["u"], "questions": 1},
        ),
        (
            "forked",
            {
                "agent": "a4",
                "segment": 8,
                "answers": True,
                "copies": [{"agent": "a5", "segment": 10, "tokens": [1], "task": "?"}],
            },
        ),
        ("begun", {"agent": "a4", "understanding": "u"}),
        ("judged", {"agent": "a3", "accepted": True}),
        ("returned", {"agent": lead, "segment": 8, "reason": "r"}),
        ("paused", {"agent": lead, "paused": True}),
        ("named", {"agent": "a3", "name": "n"}),
        ("outage", {"reason": "gone"}),
        ("resumed", {}),
        ("ended", {"agent": lead, "outcome": "finished"}),
        ("closed", {"outcome": "finished"}),
    ]


def _written(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


RECORDS: list[dict[str, Any]] = [{"record": kind, **fields} for kind, fields in _run()]
LINES = [
    b'{"record":"opened","version":1,"run":"20261124-081501-k3f9","settings":{}}', b'{"record":"given","agent":"a1","segment":1,"tokens":[1,2]}', b'{"record":"', b'{"record":"sampled"',
    b"{}", b"[]", b"null", b"\xff", b"[" * 3000, b'{"record":"opened","version":99999999999999999999}', b'{"record":"resumed"}', b"1e999",
]  # fmt: skip
JOURNAL = st.lists(
    st.sampled_from([*LINES, b"\n", b"\n\n", b"\0", b'"', b"}"])
    | st.binary(max_size=10)
    | JSON.map(lambda value: json.dumps(value).encode() + b"\n"),
    max_size=12,
).map(b"".join)
GOING_ON = st.sampled_from([b"", _written(RECORDS[:3]), _written(RECORDS)])  # the noise comes after a good beginning


@functools.cache
def _layout() -> RunLayout:
    return RunLayout.create(_home())


def read_journal(data: bytes) -> None:
    """Any bytes are records, and those a state, up to the first line that is none or cannot follow, which is named."""
    layout = _layout()
    layout.journal.write_bytes(data)
    try:
        load(layout)
    except JournalCorrupt as error:
        assert error.line >= 1


VALUES = (
    st.sampled_from(["a1", "a2", "a3", "a9", "a02", "", 0, 1, 2, 3, -1, 99, 2**40, None, [], [2**33], True, "finished"])
    | JSON
)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 22),
        st.sampled_from(["drop", "twice", "swap", "to the end", *["agent", "segment", "tokens", "to", "parent", "copies", "index", "told", "logprobs", "at", "answers", "budget"]]),
        VALUES,
    ),
    max_size=3,
)  # fmt: skip


def fold_run(edits: list[tuple[int, str, Any]]) -> None:
    """A run whose records were dropped, doubled, moved or changed folds to a state, or a line is named."""
    rows = list(RECORDS)
    for at, what, value in edits:
        at %= len(rows)
        match what:
            case "drop" if len(rows) > 1:
                del rows[at]
            case "twice":
                rows.insert(at, rows[at])
            case "swap":
                rows[at], rows[at - 1] = rows[at - 1], rows[at]
            case "to the end":
                rows.append(rows.pop(at))
            case _:
                rows[at] = {**rows[at], what: value}
    layout = _layout()
    layout.journal.write_bytes(_written(rows))
    try:
        state = load(layout)
    except JournalCorrupt as error:
        assert error.line >= 1
        assert edits
        return
    assert state.alive == sum(agent.outcome is None for agent in state.agents.values())
    assert state.next_segment == max(state.segments, default=0) + 1


def read_task_file(data: bytes) -> None:
    """A file that holds a task is a text, or bad input in one line."""
    path = _home() / "task.md"
    path.write_bytes(data)
    try:
        read_task(str(path)).encode()
    except BadInput as refusal:
        assert "\n" not in str(refusal)


def read_words(text: str) -> None:
    """What people type for a task, a budget and limits is taken, or bad input."""
    for read in (read_task, read_budget, read_limits):
        try:
            read(text)
        except BadInput:
            continue


WORDS = [
    "sampled_tokens", "turns", "seconds", "depth", "agents", "memory", "cpu", "file", "=", ",", "none", "1", "-1", "1e9", "4G", "8t", "inf", "nan", "٣", "9" * 30,
]  # fmt: skip
BUDGET = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=8).map("".join)


def read_project(data: bytes) -> None:
    """AGENTS.md and a skill may hold anything."""
    place = _home() / ".agents" / "skills" / "x"
    place.mkdir(parents=True, exist_ok=True)
    (place / "SKILL.md").write_bytes(data)
    (_home() / "AGENTS.md").write_bytes(data)
    read_conventions(_home()).encode()
    for skill in find_skills(_home()):
        skill.description.encode()


MARKS = [b"---\n", b"name: x\n", b"description: y\n", b"description: '", b"\n", b"# ", b"\x1b[2J", b"\xff"]
PROJECT = st.lists(st.sampled_from(MARKS) | st.binary(max_size=8), max_size=10).map(b"".join)


def read_settings(files: tuple[bytes, bytes]) -> None:
    """The settings in a model directory are taken, or named as unusable in one line."""
    place = _home() / "model"
    place.mkdir(exist_ok=True)
    (place / "tokenizer.json").write_bytes((Path(tiny_model()) / "tokenizer.json").read_bytes())
    (place / "ramet.json").write_bytes(files[0])
    (place / "config.json").write_bytes(files[1])
    try:
        Chat.load(str(place))
    except ChatError as error:
        assert "\n" not in str(error)


SETTINGS = st.sampled_from(
    [
        b"{}",
        b"[]",
        b"",
        b'{"terse": 1}',
        b'{"renderer": "qwen3"}',
        b'{"renderer": "x"}',
        b'{"model_type": "qwen3"}',
        b'{"model_type": 1}',
        b"\xff",
    ]
)

TARGETS: dict[str, tuple[Target, float]] = {
    "turns": (Target(SPOKEN, read_turn, str, PIECES), 0.25),
    "tokens": (Target(st.lists(st.integers(0, 260), max_size=60), read_turn), 0.1),
    "arguments": (Target(st.tuples(NAMES, ARGUMENTS), read_arguments), 0.15),
    "expressions": (Target(SUMS, calculated, str, SIGNS), 0.1),
    "letters": (Target(MAIL, read_letter, bytes, HEADERS), 0.15),
    "journals": (Target(st.builds(operator.add, GOING_ON, JOURNAL), read_journal, bytes, LINES), 0.05),
    "states": (Target(EDITS, fold_run), 0.05),
    "task files": (Target(st.binary(max_size=40), read_task_file, bytes), 0.04),
    "options": (Target(BUDGET, read_words, str, WORDS), 0.05),
    "projects": (Target(PROJECT, read_project, bytes, MARKS), 0.05),
    "model settings": (Target(st.tuples(SETTINGS | st.binary(max_size=20), SETTINGS), read_settings), 0.01),
}
"""By name: what is fuzzed, and its share of the inputs."""


def fall_in(data: bytes) -> None:
    """A parser with a hole that no generator makes an input for: what a fuzzer which is guided must find."""
    if data[:1] == b"h" and data[1:2] == b"o" and data[2:3] == b"l" and data[3:4] == b"e":
        raise ZeroDivisionError("the hole")


HOLE = Target(st.binary(max_size=8), fall_in, bytes)
