"""Messages to tokens and back, for any model family that `renderers` knows.

Owns the chat format of one model: the first prompt, what follows a turn, and what a turn says.

Invariants:
- nothing is ever re-tokenised: `extend` returns only new tokens, to be put after a head as it is;
- thinking stays in the context, so the prefix of every later request is stable;
- text that comes from files, tools or people cannot form a structural token (`neutralise`): what a file says is
  data, and never a tool call or the end of a turn.

Does not know tools, agents, or the engine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agents.context import Origin, Segment
from agents.tokenizer import Tokenizer, load_tokenizer
from workspace import NOT_JSON

if TYPE_CHECKING:
    from renderers import Renderer

__all__ = ["Call", "Chat", "ChatError", "Turn"]

T = TypeVar("T")

# Model families by the `model_type` of their config.json, for local directories whose name the renderers
# library cannot know (fine-tunes, the seedling).
_RENDERER_OF_MODEL_TYPE = {
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3",
    "gpt_oss": "gpt-oss",
    "llama": "llama-3",
    "glm4_moe": "glm-4.5",
    "minimax_m2": "minimax-m2",
    "deepseek_v3": "deepseek-v3",
    "kimi_k2": "kimi-k2",
}
# How much of a prompt's end tells how the model's turn began: the header of the turn, and thinking that it prefills.
_TAIL_TOKENS = 64
# What parsers of JSON and of tags raise beyond "invalid": numbers of thousands of digits, a thousand open brackets.
_UNREADABLE = (ValueError, RecursionError, OverflowError, MemoryError, TypeError, LookupError, AttributeError)
_SHOWN_CHARS = 200
_WORD_JOINER = "\u2060"  # invisible, takes no width, and breaks a token's spelling


class ChatError(ValueError):
    """A model whose chat format cannot be used here."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call as the model wrote it. `problem` says what is wrong with it, for the model to read."""

    name: str
    arguments: dict[str, Any] = {}
    problem: str | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a sampled segment says."""

    text: str
    thinking: str
    calls: tuple[Call, ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ramet.json` of a model directory: what its prompts must look like.

    `terse` prompts list the tools in a line instead of by JSON schema: for models trained on exactly that.
    """

    renderer: str | None = None
    terse: bool = False


class _Config(msgspec.Struct, frozen=True):
    """`config.json` of a model directory, as far as it matters here."""

    model_type: str | None = None


class Chat:
    """The chat format of one model. Cheap to use, half a second to load (a tokenizer and a template)."""

    def __init__(self, tokenizer: Tokenizer, renderer: Renderer, *, terse: bool = False) -> None:
        self.tokenizer = tokenizer
        self.terse = terse
        self._renderer = renderer
        self.stop_token_ids = tuple(renderer.get_stop_token_ids())
        special = "|".join(re.escape(token) for token in tokenizer.added_tokens)
        self._special = re.compile(special) if special else None

    @classmethod
    def load(cls, model: str) -> Chat:
        """The chat format of a model directory or a hub name.

        Raises ModelNotFound, or ChatError for a family whose turns cannot be extended token by token.
        """
        from renderers import AutoRendererConfig, config_from_name, create_renderer

        settings, family = Settings(), None
        directory = Path(model)
        if directory.is_dir():
            if (directory / "ramet.json").is_file():
                settings = _read(directory / "ramet.json", Settings)
            if (directory / "config.json").is_file():
                family = _read(directory / "config.json", _Config).model_type
        name = settings.renderer or _RENDERER_OF_MODEL_TYPE.get(family or "")
        tokenizer = load_tokenizer(model)
        try:
            config: Any = AutoRendererConfig() if name is None else config_from_name(name)
            config = config.model_copy(update={"thinking_retention": "all"})
            renderer = create_renderer(tokenizer, config)
        except (ImportError, NotImplementedError, ValueError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ChatError(f"{model}: its chat format cannot be extended turn by turn ({reason})") from error
        return cls(tokenizer, renderer, terse=settings.terse)

    def begin(self, system: str, user: str, tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """The tokens of a fresh context: system prompt, tools (JSON schemas), the first message."""
        messages = [
            {"role": "system", "content": self.neutralise(system)},
            {"role": "user", "content": self.neutralise(user)},
        ]
        ids: list[int] = self._renderer.render_ids(messages, tools=list(tools) or None, add_generation_prompt=True)
        return ids

    def extend(self, head: Segment, texts: Sequence[str]) -> list[int]:
        """The tokens that follow `head` when it is told `texts` and asked to go on.

        After a sampled head each text answers one of its tool calls, in their order, or is a message where it
        made none. After a given head (a checkpoint) the texts are messages, and the turn that the model had been
        asked for is closed empty. Raises ChatError if the family cannot do it.
        """
        # The bridge reads where the turn began and how it ended: a prompt of 128k tokens need not be copied for that.
        if head.origin is Origin.SAMPLED:
            before, completion = head.whole_turn()
            prompt = _tail(before)
            names = [self.neutralise(call.name) for call in self.parse(head).calls]
        else:
            prompt, completion, names = _tail(head), [], []
        messages: list[dict[str, Any]] = []
        for index, text in enumerate(texts):
            content = self.neutralise(text)
            if index < len(names):
                messages.append(
                    {
                        "role": "tool",
                        "content": content,
                        "name": names[index],
                        "tool_call_id": f"call_{index}",
                    }
                )
            else:
                messages.append({"role": "user", "content": content})
        bridged = self._renderer.bridge_to_next_turn(prompt, completion, messages)
        if bridged is None and completion and completion[-1] in self.stop_token_ids:
            # A turn that stopped while still thinking. As if it had been cut there, the thinking is closed first.
            completion = completion[:-1]
            bridged = self._renderer.bridge_to_next_turn(prompt, completion, messages)
        if bridged is None:
            raise ChatError(f"{self.tokenizer.name_or_path}: its chat format cannot be extended turn by turn")
        ids: list[int] = bridged.token_ids
        return ids[len(prompt) + len(completion) :]

    def parse(self, head: Segment) -> Turn:
        """What the turn that ends with the sampled segment `head` says.

        Never raises: whatever is wrong is a call with a `problem`.
        """
        before, tokens = head.whole_turn()
        try:
            parsed = self._renderer.parse_response(tokens, prompt_ids=_tail(before))
        except _UNREADABLE as error:
            problem = f"this turn could not be read ({str(error)[:_SHOWN_CHARS]}); make one simple call"
            return Turn(text="", thinking="", calls=(Call(name="", problem=problem),))
        calls = []
        for call in parsed.tool_calls:
            if call.status != "ok" or call.name is None:
                problem = (
                    f"this tool call could not be read ({call.status.value}); write one JSON object with "
                    '"name" and "arguments"'
                )
                calls.append(Call(name=call.name or "", problem=problem))
            elif problem := _problem(call.name):
                calls.append(Call(name="", problem=f"the letters of its name {problem}"))
            elif problem := _problem(call.arguments):
                calls.append(Call(name=str(call.name), problem=f"the arguments {problem}"))
            elif not isinstance(call.arguments, dict):
                calls.append(Call(name=str(call.name), problem='"arguments" must be a JSON object'))
            else:
                calls.append(Call(name=str(call.name), arguments=call.arguments))
        return Turn(
            text=(parsed.content or "").strip(),
            thinking=(parsed.reasoning_content or "").strip(),
            calls=tuple(calls),
        )

    def neutralise(self, text: str) -> str:
        """`text` with the spelling of every structural token broken by an invisible character."""
        if self._special is None:
            return text
        return self._special.sub(lambda m: m.group()[0] + _WORD_JOINER + m.group()[1:], text)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of some tokens, special ones included: for people to read."""
        return self.tokenizer.decode(tokens)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, *NOT_JSON) as error:
        raise ChatError(f"{path}: {str(error).splitlines()[0]}") from error


def _tail(segment: Segment | None) -> list[int]:
    return list(segment.tokens[-_TAIL_TOKENS:]) if segment else []


def _problem(said: object) -> str:
    """What keeps it out of files, journals and tokens; "" where nothing does."""
    try:
        msgspec.json.encode(said)
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        return "are not valid Unicode"
    except (OverflowError, RecursionError):
        return "are nested too deep, or hold too large a number"
    return ""
