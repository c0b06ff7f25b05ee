"""Constrained decoding: the structural tag that lets a model say one tool call and nothing else.

Pure. Owns the shape of one call as Qwen3 models write it:

    <tool_call>
    {"name": "...", "arguments": {...}}
    </tool_call>

Invariants of what the server then samples, whatever the weights:
- the two tags are the tokenizer's own tokens, never the same letters spelled with other tokens;
- the name is one of the given tools', the arguments are JSON that satisfies that tool's schema;
- after the closing tag only the model's end-of-turn token is left.

Two things it cannot promise: a call cut off by `max_new_tokens` is not complete, and a string may hold the tags'
own tokens, because Qwen3's vocabulary has them as ordinary text. Whoever parses the call must be able to refuse it.
Written for SGLang's xgrammar backend (0.2.7). Knows no chat format and no tool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

__all__ = ["tool_call_tag"]

# One blank between JSON tokens, as everybody's encoder writes them. Unbounded blanks are valid JSON, and what a
# weak model can lose itself in.
BLANKS = 1


def tool_call_tag(tools: Iterable[tuple[str, Mapping[str, object]]]) -> str:
    """The `structural_tag` (JSON) for exactly one call of one of `tools`: pairs of a name and its JSON schema.

    Raises ValueError if there is no tool, or the schema of one is not an object's.
    """
    calls: list[object] = []
    for name, schema in tools:
        if schema.get("type") != "object":
            raise ValueError(f"the arguments of {name} must be an object, not {schema.get('type')!r}")
        quoted = msgspec.json.encode(name).decode()
        calls.append(
            {
                "type": "tag",
                "begin": f'\n{{"name": {quoted}, "arguments": ',
                "content": {
                    "type": "json_schema",
                    "json_schema": _with_whole_strings(schema),
                    "max_whitespace_cnt": BLANKS,
                },
                "end": "}\n",
            }
        )
    if not calls:
        raise ValueError("there is no tool to call")
    call = calls[0] if len(calls) == 1 else {"type": "or", "elements": calls}
    elements = [{"type": "token", "token": "<tool_call>"}, call, {"type": "token", "token": "</tool_call>"}]
    tag = {"type": "structural_tag", "format": {"type": "sequence", "elements": elements}}
    return msgspec.json.encode(tag).decode()


def _with_whole_strings(schema: object) -> object:
    """The schema without bounds on the length of strings.

    For a bounded string xgrammar allows no escape at all, so no quote and no line break, and raw control characters,
    which are not JSON. The tool checks the length itself; `max_new_tokens` bounds what is sampled.
    """
    if isinstance(schema, Mapping):
        unbounded = schema.get("type") == "string"
        return {
            key: _with_whole_strings(value)
            for key, value in schema.items()
            if not (unbounded and key in ("minLength", "maxLength"))
        }
    if isinstance(schema, list | tuple):
        return [_with_whole_strings(item) for item in schema]
    return schema
