"""Constrained decoding: any weights make calls that parse."""

from __future__ import annotations

import json

import anyio
import pytest
from tokenizers import Tokenizer

from agents.context import Origin, Segment
from runtime.engine.base import FinishReason, Sampling
from runtime.engine.constrain import tool_call_tag
from runtime.engine.server import Server
from runtime.engine.sglang import SGLang

TOOLS: list[tuple[str, dict[str, object]]] = [
    (
        "write_file",
        {
            "type": "object",
            "properties": {"path": {"type": "string", "maxLength": 9}, "append": {"type": "boolean"}},
            "required": ["path", "append"],
            "additionalProperties": False,
        },
    ),
    (
        "fork",
        {
            "type": "object",
            "properties": {
                "count": {"type": "integer", "minimum": 1, "maximum": 64},
                "how": {"type": "array", "items": {"enum": ["deep", "wide"]}, "minItems": 1, "maxItems": 3},
            },
            "required": ["count", "how"],
            "additionalProperties": False,
        },
    ),
]


def test_the_shape_of_the_tag() -> None:
    """Two tokens around one of the calls; strings keep no bound on their length, which would forbid escapes."""
    tag = json.loads(tool_call_tag(TOOLS))
    first, calls, last = tag["format"]["elements"]
    assert (first["token"], last["token"]) == ("<tool_call>", "</tool_call>")
    assert [call["begin"].split('"')[3] for call in calls["elements"]] == ["write_file", "fork"]
    path = calls["elements"][0]["content"]["json_schema"]["properties"]["path"]
    assert path == {"type": "string"}
    assert json.loads(tool_call_tag(TOOLS[:1]))["format"]["elements"][1]["type"] == "tag"


@pytest.mark.parametrize("tools", [[], [("odd", {"type": "string"})]])
def test_nothing_to_call_is_an_error(tools: list[tuple[str, dict[str, object]]]) -> None:
    """No tools, or arguments that are not an object."""
    with pytest.raises(ValueError, match=r"tool|object"):
        tool_call_tag(tools)


@pytest.mark.engine
@pytest.mark.anyio
async def test_any_weights_make_calls_that_parse(sglang_server: Server) -> None:
    """Sampled at full temperature, every turn that ends is one well-formed call and the end of the turn."""
    tokenizer = Tokenizer.from_file(f"{sglang_server.model}/tokenizer.json")
    end = tokenizer.token_to_id("<|im_end|>")
    opening, closing = tokenizer.token_to_id("<tool_call>"), tokenizer.token_to_id("</tool_call>")
    tag = tool_call_tag(TOOLS)
    calls: list[dict[str, object]] = []

    async with SGLang.connect(sglang_server.url, api_key=sglang_server.api_key) as engine:

        async def one(number: int) -> None:
            context = Segment(number, None, Origin.GIVEN, [65 + number] * 20)
            sampling = Sampling(max_new_tokens=400, temperature=1.0, structural_tag=tag, stop_token_ids=(end,))
            reply = await engine.generate(context, sampling, session=f"call {number}")
            if reply.finish is FinishReason.LENGTH:
                return
            assert (reply.tokens[0], *reply.tokens[-2:]) == (opening, closing, end)
            text = tokenizer.decode(list(reply.tokens), skip_special_tokens=False)
            calls.append(json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call><|im_end|>")))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number)
    assert calls  # random weights close a string only once in a few hundred tokens, so some are cut
    for call in calls:
        schema = dict(TOOLS)[str(call["name"])]
        assert set(call["arguments"]) == set(schema["required"])  # type: ignore[call-overload, arg-type]
