"""What the readers of each format document, as far as an export fills it in. Unknown fields are refused.

Written down from: slime `slime/utils/types.py` at 624b824a; verl 0.9.1 `experimental/agent_loop/agent_loop.py` and
`trainer/ppo/v1/agent_loop_tq.py`; TRL 1.16.0 `experimental/async_grpo/async_rollout_worker.py`; verifiers 0.4.0
`v1/{graph,trace,episode}.py`; ATIF v1.7 as the package atif 1.8.0 has it. `test_packages` asks the real ones.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Token = Annotated[int, Meta(ge=0)]
Bit = Literal[0, 1]


class _Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class PrefixCacheInfo(_Strict):
    cached_tokens: int
    total_prompt_tokens: int


class Sample(_Strict):
    """slime."""

    group_index: int
    index: int
    rollout_id: int
    prompt: str
    tokens: list[Token]
    response: str
    response_length: int
    reward: dict[str, float]
    loss_mask: list[Bit]
    rollout_log_probs: list[float]
    weight_versions: list[str]
    status: Literal["pending", "completed", "truncated", "aborted", "failed"]
    session_id: str
    prefix_cache_info: PrefixCacheInfo
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        lengths = {len(self.loss_mask), len(self.rollout_log_probs), self.response_length}
        assert len(lengths) == 1
        assert self.response_length <= len(self.tokens)


class AgentLoopMetrics(_Strict):
    generate_sequences: float = 0.0
    tool_calls: float = 0.0
    compute_score: float = 0.0
    num_preempted: int = -1


class AgentLoopOutput(_Strict):
    """verl."""

    prompt_ids: list[Token]
    response_ids: list[Token]
    response_mask: list[Bit]
    response_logprobs: list[float]
    reward_score: float
    num_turns: int
    metrics: AgentLoopMetrics
    extra_fields: dict[str, Any]

    def __post_init__(self) -> None:
        assert len({len(self.response_ids), len(self.response_mask), len(self.response_logprobs)}) == 1


class Tag(_Strict):
    status: Literal["success"]
    prompt_len: int
    response_len: int
    seq_len: int
    min_global_steps: int | None
    max_global_steps: int | None


class QueueRow(_Strict):
    """verl's TransferQueue."""

    key: str
    uid: str
    session_id: int
    index: int
    output: AgentLoopOutput
    tag: Tag

    def __post_init__(self) -> None:
        assert self.key.rsplit("_", 2) == [self.uid, str(self.session_id), str(self.index)]
        assert self.tag.seq_len == len(self.output.prompt_ids) + len(self.output.response_ids)


class RolloutSample(_Strict):
    """TRL."""

    prompt: list[dict[str, str]]
    completion: list[dict[str, str]]
    input_ids: list[Token]
    completion_mask: list[Bit]
    old_log_probs: list[float]
    advantage: float
    model_version: int
    group_id: int
    metrics: dict[str, float]

    def __post_init__(self) -> None:
        assert len({len(self.input_ids), len(self.completion_mask), len(self.old_log_probs)}) == 1


class Message(_Strict):
    role: Literal["user", "assistant"]
    content: str


class Node(_Strict):
    parent: int | None
    message: Message
    sampled: bool
    timestamp: float
    token_ids: list[Token]
    mask: list[bool]
    logprobs: list[float] = []
    advantages: list[float] | None = None

    def __post_init__(self) -> None:
        assert len(self.mask) == len(self.token_ids)
        assert len(self.logprobs) == sum(self.mask)
        assert self.advantages is None or len(self.advantages) == len(self.logprobs)


class Usage(_Strict):
    prompt_tokens: int
    completion_tokens: int
    cached_input_tokens: int | None


class TimeSpan(_Strict):
    start: float
    end: float


class ModelCall(_Strict):
    node: int
    model: str
    finish_reason: Literal["stop", "length", "tool_calls"] | None
    usage: Usage
    time: TimeSpan


class TaskData(_Strict):
    id: str
    prompt: str


class TraceTask(_Strict):
    type: str
    data: TaskData
    key: str


class Reward(_Strict):
    score: float
    weight: float


class AgentInfo(_Strict):
    config: dict[str, Any]
    name: str
    trainable: bool


class Trace(_Strict):
    id: str
    task: TraceTask
    agent: AgentInfo
    nodes: list[Node]
    calls: list[ModelCall]
    rewards: dict[str, Reward | None]
    info: dict[str, Any]
    root_reply: str
    is_completed: bool
    ok: bool
    stop_condition: str | None


class Error(_Strict):
    type: str
    message: str


class Named(_Strict):
    id: str


class Episode(_Strict):
    """verifiers."""

    id: str
    env: Named
    task: TraceTask
    group: Named
    ok: bool
    errors: list[Error]
    traces: list[Trace]


class TrajectoryRef(_Strict):
    trajectory_id: str


class Result(_Strict):
    subagent_trajectory_ref: list[TrajectoryRef]


class Observation(_Strict):
    results: list[Result]


class Metrics(_Strict):
    completion_tokens: int
    completion_token_ids: list[Token]
    logprobs: list[float]
    prompt_tokens: int | None = None
    cached_tokens: int | None = None


class Step(_Strict):
    step_id: Annotated[int, Meta(ge=1)]
    source: Literal["system", "user", "agent"]
    message: str
    extra: dict[str, Any]
    metrics: Metrics | None = None
    observation: Observation | None = None

    def __post_init__(self) -> None:
        assert self.metrics is None or self.source == "agent"


class Agent(_Strict):
    name: str
    version: str
    model_name: str | None


class Trajectory(_Strict):
    """ATIF v1.7."""

    schema_version: Literal["ATIF-v1.7"]
    session_id: str
    trajectory_id: str
    agent: Agent
    steps: list[Step]
    extra: dict[str, Any]
    subagent_trajectories: list[Trajectory] = []

    def __post_init__(self) -> None:
        assert [step.step_id for step in self.steps] == list(range(1, len(self.steps) + 1))
        names = [one.trajectory_id for one in self.subagent_trajectories]
        assert len(set(names)) == len(names)


DOCUMENTED: dict[str, type[Struct]] = {
    "slime": Sample,
    "verl": QueueRow,
    "trl": RolloutSample,
    "verifiers": Episode,
    "atif": Trajectory,
}
