"""Going on from the middle of another attempt: its root's turns are given back, and then the engine goes on.

Owns the engine that does so, and the tools that refuse. Everything but the sampling is carried out again: files are
laid out, calls are made, and what the agent is told is new. Invariants: what is given back is what was recorded, token
for token, with its log-probabilities and weights; no turn is given back to a prompt that is not the recorded one: then
the engine refuses, and says from where on they differ (what a run calls itself and what the clock says may be in a
prompt). What was given back is computed once, before anybody goes on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from anyio.lowlevel import checkpoint

from agents.context import Origin, Segment
from agents.host import Agent, Host, Reply, ToolRefused
from agents.tools import Tool
from agents.tools.fork import Fork
from agents.tools.onboarding import Spawn
from runtime.engine.around import EngineAround
from runtime.engine.base import Engine, EngineRefused, FinishReason, Generation, Sampling
from runtime.rollouts.tasks import Midway

__all__ = ["Metered", "Replay", "refusing"]

REFUSED = "{name}: not this time: nobody else can be started. Do it yourself."
SHOWN_TOKENS = 24  # of two prompts, from where they differ


class Metered(EngineAround):
    """An engine that samples no more, once `tokens` have been sampled, than what is under way then."""

    def __init__(self, inner: Engine, tokens: int) -> None:
        super().__init__(inner)
        self._most = self._left = tokens

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate. Raises EngineRefused where nothing is left."""
        if self._left <= 0:
            raise EngineRefused(f"the collection's budget of {self._most} sampled tokens is used up")
        reply = await super().generate(context, sampling, session=session)
        self._left -= len(reply.tokens)
        return reply


class Replay(EngineAround):
    """The engine of one run, which gives its root the turns of `after` first. `words` puts tokens into text."""

    def __init__(self, inner: Engine, after: Midway, words: Callable[[Sequence[int]], str]) -> None:
        super().__init__(inner)
        self._after = after
        self._words = words
        self._root: str | None = None  # its session: whoever asks first, because nobody else is there before it
        self._at = 0  # which piece is next
        self._given = 0  # tokens of it that were given back
        self.given_tokens = 0

    @property
    def alone(self) -> bool:
        """Whether nobody else can be started once it is over."""
        return self._after.alone

    @property
    def over(self) -> bool:
        """Whether everything was given back."""
        return self._at == len(self._after.pieces)

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate. Raises EngineRefused for a prompt that is not the recorded one."""
        if self._root is None:
            self._root = session
        if self.over or session != self._root:
            return await super().generate(context, sampling, session=session)
        piece = self._after.pieces[self._at]
        start = piece.start + self._given
        self._check(context.ids(), start)
        # A turn that went on after an interruption may be longer than one may be; so it does again.
        size = min(len(piece.logprobs) - self._given, sampling.max_new_tokens)
        whole = self._given + size == len(piece.logprobs)
        reply = Generation(
            tokens=self._after.tokens[start : start + size],
            logprobs=piece.logprobs[self._given : self._given + size],
            finish=FinishReason(piece.finish) if whole else FinishReason.ABORT,
            prompt_tokens=start,
            cached_tokens=piece.cached if not self._given else start - 1,
            weight_version=piece.version,
        )
        if whole and self._at + 1 == len(self._after.pieces):
            trunk = Segment(0, context, Origin.SAMPLED, reply.tokens, reply.logprobs, reply.weight_version)
            await super().warm(trunk, session=session)
        else:
            await checkpoint()
        self._at, self._given = (self._at + 1, 0) if whole else (self._at, self._given + size)
        self.given_tokens += size
        return reply

    def _check(self, prompt: Sequence[int], start: int) -> None:
        recorded = self._after.tokens[:start]
        if tuple(prompt) == recorded:
            return
        pairs = zip(prompt, recorded, strict=False)
        at = next((n for n, (new, old) in enumerate(pairs) if new != old), min(len(prompt), start))
        new, old = (self._words(tokens[at : at + SHOWN_TOKENS]) for tokens in (prompt, recorded))
        raise EngineRefused(
            f"{self._after.rollout} cannot be replayed: token {at} on, it read {old!r}, and now {new!r}"
        )


def refusing(tools: Mapping[str, type[Tool]], replay: Replay) -> dict[str, type[Tool]]:
    """The tools, of which those that start others refuse it to the root, once `replay` is over.

    All of them and ever after, not the one call: an agent that simply asks again would be compared with itself.
    """
    return {name: _refused(tool, replay) if issubclass(tool, Fork | Spawn) else tool for name, tool in tools.items()}


def _refused(tool: type[Tool], replay: Replay) -> type[Tool]:
    async def run(self: Tool, agent: Agent, host: Host) -> Reply:
        if replay.over and agent.parent is None:
            raise ToolRefused(REFUSED.format(name=tool.name))
        return await tool.run(self, agent, host)

    # Of the same name, fields and description: the model is shown the same tools.
    namespace = {"run": run, "__doc__": tool.__doc__}
    made = msgspec.defstruct(tool.__name__, [], bases=(tool,), namespace=namespace, frozen=True, kw_only=True)
    assert issubclass(made, Tool)
    return made
