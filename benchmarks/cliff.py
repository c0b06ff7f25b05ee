"""What happens when agents want more KV than the pool holds: the same agents with and without admission.

    python -m benchmarks.cliff [--agents 8] [--turns 6]

Starts a real server with a small pool and lets agents take turns in one swarm: each with a trunk of its own, nothing
shared. As many as fill the pool, twice and four times as many. `ungoverned` is the same swarm told that the pool is
endless: every turn is sent at once and only the client's limiter and the server's own queue stand in its way.

Weights do not matter: a random model is asked for a fixed number of tokens, calls no tool, and is told so, which makes
the next turn. Prints one JSON object. `recompute_ratio` is computed over necessary prompt tokens, `tokens_per_s` counts
sampled tokens; `of_1x` compares with the same case at 1x.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from random import Random

import anyio
import structlog
from msgspec import structs

from agents.chat import Chat
from agents.context import Segment
from runtime import Budget, Settings, SGLang, Swarm
from runtime.engine._http import Http
from runtime.engine.around import EngineAround
from runtime.engine.base import Capacity, Generation, Sampling
from runtime.engine.server import Server, ServerOptions, managed_server
from tests.runtime.engine.random_model import write_random_model

TRUNK_TOKENS = 2_000  # of each agent's task: with six turns a context of 3200, of which the pool holds eight
SAMPLED = 48  # tokens a turn
TIMES = (1, 2, 4)


class Plain(EngineAround):
    """The engine without stop tokens, so that every turn samples as many tokens, and with a pool as large as said."""

    def __init__(self, engine: SGLang, pool_tokens: int | None) -> None:
        super().__init__(engine)
        self._pool_tokens = pool_tokens

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate."""
        return await self.inner.generate(context, structs.replace(sampling, stop_token_ids=()), session=session)

    async def capacity(self) -> Capacity:
        """See Engine.capacity."""
        capacity = await self.inner.capacity()
        return capacity if self._pool_tokens is None else structs.replace(capacity, pool_tokens=self._pool_tokens)


async def measure(engine: Plain, chat: Chat, agents: int, turns: int, seed: int) -> dict[str, float]:
    """One swarm of `agents` that all start at once and take `turns` each."""
    random = Random(seed)
    settings = Settings(turn_tokens=SAMPLED, budget=Budget(sampled_tokens=None, turns=None, agents=agents))
    tasks = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz ", k=TRUNK_TOKENS)) for _ in range(agents)]
    with tempfile.TemporaryDirectory() as directory:
        async with Swarm(engine, Path(directory), settings=settings, chat=chat) as swarm:
            began = anyio.current_time()
            handles = [await swarm.start(task, budget=Budget(turns=turns)) for task in tasks]
            for handle in handles:
                await handle.result()
            seconds = anyio.current_time() - began
            statistics = swarm.statistics()
            most = max(handle.state.head.length for handle in handles)
    return {
        "agents": agents,
        "final_context_tokens": most,
        "seconds": round(seconds, 1),
        "sampled_tokens": statistics.sampled_tokens,
        "tokens_per_s": round(statistics.sampled_tokens / seconds, 1),
        "computed_tokens": statistics.computed_tokens,
        "recompute_ratio": round(statistics.recompute_ratio, 3),
    }


async def compare(agents: int, turns: int, pool: int) -> dict[str, object]:
    """Every case on one server, its cache flushed between them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as scratch:
        model = write_random_model(Path(scratch) / "model")
        options = ServerOptions(pool_tokens=pool, running_requests=agents * max(TIMES))
        async with managed_server(str(model), options, log=Path(scratch) / "server.log") as server:
            return await _compare(server, agents, turns, pool)


async def _compare(server: Server, agents: int, turns: int, pool: int) -> dict[str, object]:
    cases: dict[str, dict[str, float]] = {}
    async with (
        SGLang.connect(server.url, api_key=server.api_key) as engine,
        Http(server.url, api_key=server.api_key, connections=1) as http,
    ):
        chat = Chat.load(server.model)
        await measure(Plain(engine, None), chat, 2, 2, seed=99)  # the first requests of a server are slow
        for times in TIMES:
            for name, told in (("governed", None), ("ungoverned", 100 * pool)):
                await http.control("POST", "/flush_cache")
                case = await measure(Plain(engine, told), chat, times * agents, turns, seed=times)
                first = cases.get(f"{name}_1x", case)
                case["of_1x"] = round(case["tokens_per_s"] / first["tokens_per_s"], 3)
                cases[f"{name}_{times}x"] = case
    return {"benchmark": "cliff", "pool_tokens": pool, "turns": turns, "sampled_a_turn": SAMPLED} | cases


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=8, help="at 1x")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--pool", type=int, default=26_624)
    arguments = parser.parse_args()
    print(json.dumps(anyio.run(compare, arguments.agents, arguments.turns, arguments.pool)))


if __name__ == "__main__":
    main()
