"""What is said to an SGLang server, and what it says: contexts to bytes, bytes to generations. Pure.

Invariants:
- a context's tokens are sent as the bytes the context already has, never encoded again, and copied once;
- prompt log-probabilities are never asked for: they would disable the reuse of a cached prefix;
- every token of a generation has its log-probability, or the reply is refused.

Written against SGLang 0.5.21. Knows no connections.
"""

from __future__ import annotations

import msgspec

from agents.context import Segment
from runtime.engine.base import Capacity, EngineError, EngineUnavailable, FinishReason, Generation, Sampling
from workspace import NOT_JSON

__all__ = ["NOTHING", "Reply", "encode", "generate_body", "read_capacity", "read_generation", "read_reply"]


class _Finish(msgspec.Struct):
    type: str
    message: str | None = None


class _Meta(msgspec.Struct):
    finish_reason: _Finish
    prompt_tokens: int = 0  # not said of a request that was aborted before it ran
    cached_tokens: int = 0
    weight_version: str = ""
    e2e_latency: float = 0.0
    output_token_logprobs: list[tuple[float | None, int, str | None]] = []


class Reply(msgspec.Struct):
    """Of `/generate`."""

    meta_info: _Meta
    output_ids: list[int] = []


class _ServerInfo(msgspec.Struct):
    """Of `/server_info`, which has several hundred fields, those that say what fits."""

    tokenizer_path: str
    max_total_num_tokens: int
    max_req_input_len: int
    page_size: int = 1
    weight_version: str = ""
    internal_states: list[_State] = []


class _State(msgspec.Struct):
    effective_max_running_requests_per_dp: int = 64


NOTHING = Reply(meta_info=_Meta(finish_reason=_Finish(type="abort")))
"""The reply to a request that was interrupted before it was sent."""

_reply = msgspec.json.Decoder(Reply)
_server_info = msgspec.json.Decoder(_ServerInfo)
encode = msgspec.json.Encoder().encode


def generate_body(context: Segment, sampling: Sampling, session: str, rid: str) -> bytes:
    """The body of `/generate`. `rid`: 32 hexadecimal digits."""
    parameters: dict[str, object] = {
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "skip_special_tokens": False,
        "no_stop_trim": True,
    }
    if sampling.stop_token_ids:
        parameters["stop_token_ids"] = sampling.stop_token_ids
    if sampling.seed is not None:
        parameters["sampling_seed"] = sampling.seed
    if sampling.structural_tag is not None:
        parameters["structural_tag"] = sampling.structural_tag
    rest = encode(
        {
            "rid": rid,
            "session_id": session,
            "return_logprob": sampling.max_new_tokens > 0,
            "logprob_start_len": -1,
            "stream": False,
            "sampling_params": parameters,
        }
    )
    return b"".join((b'{"input_ids":', context.json(), b",", memoryview(rest)[1:]))


def read_reply(url: str, raw: bytes) -> Reply:
    """What `/generate` answered. Raises EngineError; EngineUnavailable where it is no JSON, and a repeat may be."""
    try:
        return _reply.decode(raw)
    except msgspec.ValidationError as error:
        raise EngineError(f"{url}/generate: not a reply we understand: {error}") from error
    except NOT_JSON as error:  # whatever is between us may have cut it
        raise EngineUnavailable(f"{url}/generate: not JSON: {error}") from error


def read_generation(reply: Reply, seconds: float) -> Generation:
    """The generation in a reply that took so long. Raises EngineError."""
    meta = reply.meta_info
    logprobs = tuple(logprob for logprob, _token, _text in meta.output_token_logprobs if logprob is not None)
    if len(logprobs) != len(reply.output_ids):
        raise EngineError(f"{len(reply.output_ids)} tokens came back with {len(logprobs)} log-probabilities")
    try:
        finish = FinishReason(meta.finish_reason.type)
    except ValueError as error:
        raise EngineError(f"unknown finish reason {meta.finish_reason.type!r}") from error
    return Generation(
        tokens=tuple(reply.output_ids),
        logprobs=logprobs,
        finish=finish,
        prompt_tokens=meta.prompt_tokens,
        cached_tokens=meta.cached_tokens,
        weight_version=meta.weight_version,
        seconds=seconds,
    )


def read_capacity(raw: bytes) -> Capacity:
    """What `/server_info` says. Raises EngineError."""
    try:
        info = _server_info.decode(raw)
    except NOT_JSON as error:
        raise EngineError(f"/server_info: not a reply we understand: {error}") from error
    running = [state.effective_max_running_requests_per_dp for state in info.internal_states]
    return Capacity(
        model=info.tokenizer_path,
        pool_tokens=info.max_total_num_tokens,
        context_tokens=info.max_req_input_len,
        page_tokens=info.page_size,
        running_requests=sum(running) or 64,
        weight_version=info.weight_version,
    )
