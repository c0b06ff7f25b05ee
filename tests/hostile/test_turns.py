"""What a model says: whatever it is, it is read in bounded time, and what is no call becomes an error it can act on."""

from __future__ import annotations

import json

import pytest

from agents.chat import Call
from agents.context import Origin, Segment
from agents.host import ToolRefused
from agents.tools import TOOLS, read_call
from agents.tools.calc import calculate
from tests.hostile.corpus import Attack, attacks
from tests.hostile.ground import Ground, bounded
from tests.support import tiny_chat

pytestmark = pytest.mark.anyio

MILLION = 1_000_000


@pytest.mark.parametrize("attack", attacks("turns"), ids=lambda attack: attack.kind)
def test_no_turn_is_taken_for_what_it_is_not(ground: Ground, attack: Attack) -> None:
    """Each is read without an exception; none becomes a call that runs; what is told of it can be a message."""
    chat = tiny_chat()
    root = Segment(1, None, Origin.GIVEN, chat.begin("s", "u"))
    said = chat.tokenizer.encode(ground.filled(attack.how))
    for stop in ([], [chat.stop_token_ids[0]]):
        head = Segment(2, root, Origin.SAMPLED, [*said, *stop])
        with bounded(0):
            calls = chat.parse(head).calls
            refusals = []
            for call in calls:
                with pytest.raises(ToolRefused) as refused:
                    read_call(call, TOOLS)
                refusals.append(str(refused.value))
            assert chat.extend(head, refusals or ["no call"])
        assert all(len(text) < 4_000 and text.encode() for text in refusals)


@pytest.mark.parametrize("attack", attacks("calc"), ids=lambda attack: attack.kind)
async def test_no_expression_takes_long(ground: Ground, attack: Attack) -> None:
    """It is calculated or refused at once; as a program it is refused, and nothing of it runs."""
    expression = ground.filled(attack.how)
    with bounded(0):
        reply = await ground.attempt("calc", expression=expression)
    if attack.expect == "blocked" and expression not in ("sum(results)", "a2"):
        assert reply.error
    assert len(reply.text) < 21_000
    ground.assert_intact()


def test_a_number_can_be_rounded_far() -> None:
    """Rounding to more places than there are, or to millions of them, gives the number, or 0."""
    assert calculate("round(2/3, 3)") == "0.667"
    assert calculate("round(12, 99999999999)") == "12"
    assert calculate("round(12, -99999999999)") == "0"
    assert calculate("round(1250, -2)") == "1200"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("fork", {"tasks": ["x"] * MILLION + [1]}),
        ("spawn", {"tasks": ["x"] * MILLION + [None]}),
        ("ask", {"questions": [""] * MILLION}),
        ("wait", {"agents": ["a"] * MILLION, "until": "never"}),
        ("send", {"to": ["a"] * MILLION, "subject": "s"}),
        ("introduce", {"who": "x" * MILLION}),
        ("introduce", {"who": "x", "description": "y" * MILLION}),
        ("verdict", {"verdict": "x" * MILLION}),
        ("calc", {"expression": ["1"] * MILLION}),
        ("shell", {"command": {str(n): n for n in range(MILLION // 10)}}),
        ("read_file", {str(n): n for n in range(MILLION // 10)}),
        ("x" * MILLION, {}),
        ("finish", {"result": "x", "y" * MILLION: 1}),
    ],
    ids=lambda value: value[:9] if isinstance(value, str) else "",
)
def test_a_million_of_anything_is_one_short_error(tool: str, arguments: dict[str, object]) -> None:
    """An argument with a million elements that is wrong in one of them costs a moment, and says what is wrong."""
    with bounded(0), pytest.raises(ToolRefused) as refused:
        read_call(Call(name=tool, arguments=arguments), TOOLS)
    assert len(str(refused.value)) < 1_000


async def test_a_million_letters_are_a_bounded_answer(ground: Ground) -> None:
    """Commands, paths, patterns and expressions of a million letters are refused, or do what they say."""
    long = "x" * MILLION
    for tool, arguments in (
        ("shell", {"command": f"true {long}"}),
        ("calc", {"expression": long}),
        ("read_file", {"path": long}),
        ("list_files", {"path": f"{long}/y"}),
        ("read_file", {"path": "plain.txt", "offset_lines": 10**40}),
    ):
        with bounded(0):
            reply = await carried(ground, tool, arguments)
        assert reply
    with bounded(0):
        written = await carried(ground, "write_file", {"path": "long.txt", "text": long})
    assert written == f"created long.txt ({MILLION} bytes)"
    ground.assert_intact()


async def carried(ground: Ground, tool: str, arguments: dict[str, object]) -> str:
    """The beginning of what the agent is told."""
    from agents.agent import carry_out

    json.dumps(arguments)  # what a model can say
    reply = await carry_out(ground.agent, ground, 0, Call(name=tool, arguments=arguments))  # type: ignore[arg-type]
    return reply.text[:200]
