"""The contract between the runtime and whatever generates tokens: tokens in, tokens out.

Owns the types that cross this boundary and the errors that can come back over it. Every engine (a real SGLang
server, the scripted one) passes the same tests, `tests/runtime/engine/contract.py`.

Invariants every engine keeps:
- `generate` returns exactly the tokens that were sampled, the stop token included, one log-probability each;
- on cancellation the request is aborted at the engine before the exception leaves;
- a prompt that shares a prefix with an earlier, finished one reports it in `cached_tokens`, except the last
  token of the earlier one (it has no KV) and the last token of the new one (its logits are needed).
"""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec

from agents.context import Segment

__all__ = [
    "Capacity",
    "Engine",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "FinishReason",
    "Generation",
    "Sampling",
]


class FinishReason(enum.StrEnum):
    """Why a generation ended."""

    STOP = "stop"  # a stop token was sampled
    LENGTH = "length"  # `max_new_tokens` reached
    ABORT = "abort"  # aborted at the engine; the tokens so far are returned


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to sample. `max_new_tokens` = 0 only warms the cache."""

    max_new_tokens: int
    stop_token_ids: tuple[int, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int | None = None
    structural_tag: str | None = None  # an SGLang structural tag (JSON): constrained decoding


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one request. `len(tokens) == len(logprobs)`; times in seconds."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: FinishReason
    prompt_tokens: int
    cached_tokens: int
    weight_version: str = ""
    seconds: float = 0.0


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can hold. Tokens throughout."""

    model: str  # a name or path: where the tokenizer and the chat format come from
    pool_tokens: int  # KV pool of one worker (`max_total_num_tokens`)
    context_tokens: int  # longest context one request may have
    page_tokens: int = 1
    running_requests: int = 64  # how many may run at once, on one worker
    workers: int = 1
    weight_version: str = ""


class EngineError(Exception):
    """A failure of the engine: data on the agent whose request it was."""


class EngineUnavailable(EngineError):
    """The engine could not be reached or went away; a repeat may succeed."""


class EngineRefused(EngineError):
    """The engine refused this request (`status` is HTTP's where there was one); a repeat would be refused too."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Engine(Protocol):
    """Generates tokens for contexts. Opened and closed by whoever made it."""

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """Sample a continuation of `context`.

        `session` names the owner of the KV: what it holds is evicted last until `release(session)`.
        Raises EngineUnavailable or EngineRefused. On cancellation the request is aborted, bounded and shielded.
        """
        ...

    async def warm(self, context: Segment, *, session: str) -> int:
        """Prefill `context` and sample nothing; returns the cached tokens it found. Errors as `generate`."""
        ...

    async def interrupt(self, session: str) -> None:
        """End the generations of `session` that are in flight: they return what they have sampled, finish ABORT."""
        ...

    def worker(self, context: Segment) -> int:
        """Which worker, from 0, would continue `context` now: the one whose pool holds its family."""
        ...

    async def release(self, session: str) -> None:
        """Let the KV of `session` go. Never raises for an unknown session."""
        ...

    async def capacity(self) -> Capacity:
        """What the engine can hold, asked once and remembered. Raises EngineUnavailable."""
        ...

    async def healthy(self) -> bool:
        """Whether the engine answers now. Never raises an EngineError."""
        ...

    def trouble(self) -> str:
        """What people should know of it, "" if nothing: it may answer and yet fail, or answer only in part.

        Asks nobody; the same words for as long as the trouble is the same.
        """
        ...
