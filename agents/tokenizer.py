"""Loading a model's tokenizer, without loading a machine-learning framework.

Owns the adapter between the `tokenizers` library and what `renderers` expects of a tokenizer. Knows nothing of
chat formats. Invariant: `decode(encode(text)) == text` for text without special tokens (byte-level models).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tokenizers

__all__ = ["ModelNotFound", "Tokenizer", "load_tokenizer"]


class ModelNotFound(ValueError):
    """A model name or path under which no tokenizer can be found."""


class Tokenizer:
    """A `tokenizers.Tokenizer` with the few names that `renderers` calls it by."""

    def __init__(self, inner: tokenizers.Tokenizer, name_or_path: str) -> None:
        self._inner = inner
        self.name_or_path = name_or_path
        self.unk_token_id: int | None = None
        self.eos_token_id: int | None = inner.token_to_id("<|im_end|>")

    def encode(self, text: str, *_: Any, **__: Any) -> list[int]:
        """Token ids of `text`, nothing added."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Iterable[int], *_: Any, skip_special_tokens: bool = False, **__: Any) -> str:
        """The text of `token_ids`, special tokens included unless told otherwise."""
        text: str = self._inner.decode(list(token_ids), skip_special_tokens=skip_special_tokens)
        return text

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        """The id of one token, None where the vocabulary lacks it."""
        found: int | None = self._inner.token_to_id(tokens)
        return found

    @property
    def added_tokens(self) -> list[str]:
        """The strings that the tokenizer always takes as one token: the ones that give a chat its structure."""
        return sorted(token.content for token in self._inner.get_added_tokens_decoder().values())


def load_tokenizer(model: str) -> Tokenizer:
    """The tokenizer of a model directory, or of a model on the Hugging Face hub.

    Raises ModelNotFound, in one line, when there is none.
    """
    import tokenizers

    directory = Path(model)
    try:
        if directory.is_dir():
            file = directory / "tokenizer.json"
            if not file.is_file():
                raise ModelNotFound(f"{model}: no tokenizer.json in this directory")
            return Tokenizer(tokenizers.Tokenizer.from_file(str(file)), model)
        return Tokenizer(tokenizers.Tokenizer.from_pretrained(model), model)
    except ModelNotFound:
        raise
    # The library raises bare Exceptions from Rust, for a missing repository and a broken file alike.
    except Exception as error:
        raise ModelNotFound(f"{model}: no tokenizer could be loaded ({str(error).splitlines()[0][:200]})") from error
