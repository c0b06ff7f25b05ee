"""verifiers: an environment whose episodes are swarms that fork, for prime-rl and everything that runs environments.

An episode is one attempt on the SGLang server that the run's client points at: the root's tree is one trace, with a
branch for each fork, and every agent that was spawned has its own. verifiers keeps rewards and leaves advantages to
its trainer; with an attempt by itself there is nothing to compare, so they are left out. `rewards` grades an attempt by
the task: override it, or give the taskset's data an `answer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import verifiers.v1 as vf

from runtime import SGLang
from runtime.records import Settings
from runtime.rollouts import Function, Reward, Rollout, Task
from runtime.rollouts.collect import collect
from runtime.rollouts.export import lines


class SwarmConfig(vf.EnvConfig):
    """`lead` is the root agent; it names and tasks all others itself."""

    lead: vf.AgentConfig = vf.AgentConfig()
    turn_tokens: int = 2048


class SwarmEnv(vf.Env[SwarmConfig]):
    """Runs ramet instead of a harness."""

    def rewards(self, task: vf.Task) -> Sequence[Reward]:
        """What an attempt at the task is graded by."""
        answer = getattr(task.data, "answer", None)

        def right(rollout: Rollout, directory: Path) -> bool:
            return rollout.head.result.strip() == str(answer).strip()

        return [] if answer is None else [Function("right", right)]

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """Never called: an episode is made whole by `run_episode`."""
        raise NotImplementedError

    async def run_episode(
        self,
        task: vf.Task,
        ctx: Any,
        *,
        on_trace: Callable[[Any], None] | None = None,
        on_discard: Callable[[Any], None] | None = None,
    ) -> Any:
        """One attempt. Its traces are told of once it has ended."""
        prompt = task.data.prompt
        text = prompt if isinstance(prompt, str) else "\n".join(str(one.content) for one in prompt or ())
        settings = Settings(
            temperature=1.0 if ctx.sampling.temperature is None else ctx.sampling.temperature,
            turn_tokens=self.config.turn_tokens,
        )
        url = str(ctx.client.base_url).rstrip("/").removesuffix("/v1")
        async with (
            SGLang.connect(url) as engine,
            collect(
                [Task(id=task.key, prompt=text)], self.rewards(task), group=1, engine=engine, settings=settings
            ) as collected,
        ):
            (rollout,) = [one async for one in collected]
        (line,) = lines("verifiers", [rollout])
        episode = vf.WireEpisode.model_validate(line)
        episode.id = vf.Episode.model_fields["id"].get_default(call_default_factory=True)
        episode.env.id = self.config.env_id
        episode.group = None  # the consumer's to say
        episode.task.type, episode.task.hash = type(task).__name__, task.hash
        for trace in episode.traces:
            for node in trace.nodes:
                node.advantages = None
            if on_trace is not None:
                on_trace(trace)
        return episode
