"""What comes back from files, commands and letters: it drives no terminal, and is never taken for a tool call."""

from __future__ import annotations

import functools
import re
import shlex

import pytest

from agents.context import Origin, Segment
from tests.hostile.corpus import Attack, attacks
from tests.hostile.ground import MOST_CHARS, Ground
from tests.support import SPECIAL, STRUCTURAL, call, tiny_chat

pytestmark = pytest.mark.anyio

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@pytest.mark.parametrize("attack", attacks("text"), ids=lambda attack: f"{attack.kind}-{attack.way}")
async def test_what_comes_back_is_only_text(sandboxed: Ground, attack: Attack) -> None:
    """By whichever tool it comes, it holds no control character, and as tokens no structure of its own."""
    text = sandboxed.filled(attack.how)
    said = await _met(sandboxed, text, attack.way)
    assert said.strip()
    assert len(said) < MOST_CHARS
    assert not CONTROL.search(said)
    chat = tiny_chat()
    sampled = _asked()
    structure = {chat.tokenizer.convert_tokens_to_ids(token) for token in (*SPECIAL, *STRUCTURAL)}
    told, plain = (chat.extend(sampled, [each]) for each in (said, "plain"))
    assert [t for t in told if t in structure] == [t for t in plain if t in structure]
    sandboxed.assert_intact()


@functools.cache
def _asked() -> Segment:
    """A context whose last turn made one call."""
    chat = tiny_chat()
    root = Segment(1, None, Origin.GIVEN, chat.begin("s", "u"))
    return Segment(
        2, root, Origin.SAMPLED, [*chat.tokenizer.encode(call("calc", expression="1")), chat.stop_token_ids[0]]
    )


async def _met(ground: Ground, text: str, way: str) -> str:
    """What an agent is told that meets `text` in this way."""
    place = ground.project / "met"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    (place / "content.txt").write_text(f"before {text} after\n", encoding="utf-8", newline="")
    match way:
        case "read":
            reply = await ground.attempt("read_file", path="met/content.txt")
        case "searched":
            reply = await ground.attempt("search", path="met", pattern=".")
            # A NUL makes it a binary file, of which nothing is shown.
            assert "\0" not in text or "were skipped" in reply.note
        case "listed":
            (place / _as_name(text)).touch()
            reply = await ground.attempt("list_files", path="met")
        case _:
            command = f"cat met/content.txt; printf %s {shlex.quote(text.replace(chr(0), ''))} >&2"
            reply = await ground.attempt("shell", command=command)
    return f"{reply.text}\n{reply.note}"


def _as_name(text: str) -> str:
    """What of it a file's name can hold."""
    return text.replace("\0", "").replace("/", "∕").encode()[:200].decode("utf-8", "ignore") or "empty"
