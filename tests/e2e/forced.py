"""A real engine whose words are decided by a script: what the server computes, caches and reports stays its own.

Owns the grammar that leaves the model one thing to say. The tokens are the server's choice among the spellings of the
text, except those of tool calls, which are the model's own; so nothing depends on the weights.

A turn is either words or one call. Words that a call follows cannot be forced: xgrammar 0.2.7 mistakes one token for
another where they follow text in the grammars of two requests (its cache of masks does not tell them apart).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import json, structs

from agents.chat import Chat
from agents.context import Segment
from runtime.engine.around import EngineAround
from runtime.engine.base import Engine, Generation, Sampling

__all__ = ["Forced", "saying"]

_TOKENS = re.compile(r"(</?(?:think|tool_call)>)")


def saying(text: str) -> str:
    """The structural tag that allows `text` and then the end of the turn."""
    pieces: list[dict[str, str]] = []
    for piece in _TOKENS.split(text):
        if _TOKENS.fullmatch(piece):
            pieces.append({"type": "token", "token": piece})
        elif piece:
            pieces.append({"type": "const_string", "value": piece})
    return json.encode({"type": "structural_tag", "format": {"type": "sequence", "elements": pieces}}).decode()


class Forced(EngineAround):
    """`decide(text so far) -> what to say` on `engine`: as `text_policy`, with a model in between.

    `engine` may be a fleet. Everything else is the engine's own.
    """

    def __init__(self, engine: Engine, chat: Chat, decide: Callable[[str], str]) -> None:
        super().__init__(engine)
        self._chat = chat
        self._decide = decide

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate. A turn that was interrupted is continued with the rest of what was to be said."""
        if sampling.max_new_tokens:
            before, header, begun = self._chat.text(context.ids()).rpartition("<|im_start|>assistant\n")
            said = self._decide(before + header)
            assert said.startswith(begun), (said, begun)
            sampling = structs.replace(sampling, structural_tag=saying(said[len(begun) :]))
        return await super().generate(context, sampling, session=session)
