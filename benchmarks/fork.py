"""What N copies of a long context cost an engine, three ways.

    python -m benchmarks.fork [--trunks 1024 4096 8192] [--copies 2 8 32]

On one real server, its cache flushed before each case, weights random (they do not matter), while one other agent
generates, as in any swarm: requests then arrive between two steps of the server and are batched. Each copy is the trunk
and a suffix of its own, and is asked for one token, so the time to the reply is the time to the first token:

- `fork`: what an agent does that forks itself: the trunk is resident, the copies go at once;
- `fork_cold`: the trunk is not resident: one leader warms it, then the copies go (its time counts);
- `at_once`: no leader: the copies go at once, cold;
- `spawned`: each copy is given the context again behind a different first token, as fresh agents are with prompts
  of their own, so nothing is shared.

Prints one JSON object: computed prompt tokens (all copies together) and the time until the last copy, and the median
one, had its first token; medians of the rounds, but a case that takes more than SLOW_S is measured once. `spawned`
cases above `--most` prompt tokens are left out (null).
Exits with 1 if a fork ever computes more than a page and its suffix a copy, beyond a cold trunk once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import anyio

from agents.context import Origin, Segment
from runtime.engine._http import Http
from runtime.engine.base import Sampling
from runtime.engine.server import ServerOptions, managed_server
from runtime.engine.sglang import SGLang
from tests.runtime.engine.random_model import write_random_model

SUFFIX = 32  # tokens: "you are copy 2 of 8, your task is ..."
PAGE = 1
SLOW_S = 4.0
# Thousands of tokens from any weights.
ENDLESS = json.dumps(
    {
        "type": "structural_tag",
        "format": {
            "type": "json_schema",
            "json_schema": {"type": "array", "items": {"type": "integer"}, "minItems": 5000},
        },
    }
)


class Bench:
    """An engine, and a cache that can be emptied."""

    def __init__(self, engine: SGLang, http: Http, seed: int = 0) -> None:
        self._engine = engine
        self._http = http
        self._random = Random(seed)
        self._numbers = iter(range(1, 10**9))

    def given(self, tokens: int, parent: Segment | None = None, *, first: int | None = None) -> Segment:
        """A segment of random letters. `first` sets its first token: copies differ from there on."""
        ids = self._random.choices(range(32, 127), k=tokens)
        if first is not None:
            ids[0] = first
        return Segment(next(self._numbers), parent, Origin.GIVEN, ids)

    async def ask(self, contexts: Sequence[Segment], leader: Segment | None = None) -> dict[str, float]:
        """All of them at once, after `leader` if there is one: computed tokens, and when the first tokens came."""
        computed: list[int] = []
        seconds: list[float] = []
        began = anyio.current_time()
        if leader is not None:
            computed.append(leader.length - await self._engine.warm(leader, session="leader"))

        async def one(number: int, context: Segment) -> None:
            sampling = Sampling(max_new_tokens=1)
            reply = await self._engine.generate(context, sampling, session=f"copy {number}")
            seconds.append(anyio.current_time() - began)
            computed.append(reply.prompt_tokens - reply.cached_tokens)

        async with anyio.create_task_group() as group:
            for number, context in enumerate(contexts):
                group.start_soon(one, number, context)
        return {"computed_tokens": sum(computed), "last_s": max(seconds), "median_s": statistics.median(seconds)}

    async def generate(self) -> None:
        """Another agent, at work until it is cancelled."""
        sampling = Sampling(max_new_tokens=8000, structural_tag=ENDLESS)
        await self._engine.generate(self.given(64), sampling, session="other")

    async def rounds(self, way: str, trunk_tokens: int, copies: int, rounds: int) -> list[dict[str, float]]:
        """One case, several times."""
        cases: list[dict[str, float]] = []
        while len(cases) < rounds and not (cases and cases[0]["last_s"] > SLOW_S):
            cases.append(await self.case(way, trunk_tokens, copies))
        return cases

    async def case(self, way: str, trunk_tokens: int, copies: int) -> dict[str, float]:
        """One case, on an empty cache, beside another agent."""
        for number in range(copies):
            await self._engine.release(f"copy {number}")
        await self._engine.release("leader")
        await self._idle()  # a server that works on something refuses to empty its cache
        await self._http.control("POST", "/flush_cache")
        trunk = self.given(trunk_tokens)
        firsts = range(32, 32 + copies)  # different first tokens
        if way == "spawned":
            text = trunk.ids()[1:]
            again = [Segment(next(self._numbers), None, Origin.GIVEN, [first, *text]) for first in firsts]
            contexts = [self.given(SUFFIX, own) for own in again]
        else:
            contexts = [self.given(SUFFIX, trunk, first=first) for first in firsts]
        if way == "fork":
            await self._engine.warm(trunk, session="leader")
        async with anyio.create_task_group() as group:
            group.start_soon(self.generate)
            await self._busy()
            asked = await self.ask(contexts, leader=trunk if way == "fork_cold" else None)
            group.cancel_scope.cancel()
        return asked

    async def _busy(self) -> None:
        while not await self._requests():  # noqa: ASYNC110 (a server tells nobody)
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)  # it is prefilled and decodes

    async def _idle(self) -> None:
        while await self._requests():  # noqa: ASYNC110
            await anyio.sleep(0.01)

    async def _requests(self) -> int:
        loads = json.loads(await self._http.control("GET", "/v1/loads?include=core"))["loads"]
        return sum(load["num_running_reqs"] + load["num_waiting_reqs"] for load in loads)


def _most_allowed(way: str, trunk: int, copies: int) -> int:
    return copies * (SUFFIX + PAGE) + (trunk if way == "fork_cold" else 0)


async def measure(trunks: list[int], copies: list[int], rounds: int, most: int) -> dict[str, object]:
    """Every case."""
    rows: list[dict[str, object]] = []
    right = True
    options = ServerOptions(pool_tokens=max(most, 2 * max(trunks)) + 8192, running_requests=max(copies) + 1)
    with tempfile.TemporaryDirectory() as scratch:
        model = write_random_model(Path(scratch) / "model")
        async with (
            managed_server(str(model), options, log=Path(scratch) / "server.log") as server,
            SGLang.connect(server.url, api_key=server.api_key) as engine,
            Http(server.url, api_key=server.api_key, connections=1) as http,
        ):
            bench = Bench(engine, http)
            await bench.case("at_once", 512, 4)  # the first requests of a server are slow
            for trunk in trunks:
                for number in copies:
                    row: dict[str, object] = {"trunk_tokens": trunk, "copies": number}
                    for way in ("fork", "fork_cold", "at_once", "spawned"):
                        if way == "spawned" and trunk * number > most:
                            row[way] = None
                            continue
                        cases = await bench.rounds(way, trunk, number, rounds)
                        row[way] = {key: round(statistics.median(c[key] for c in cases), 4) for key in cases[0]}
                        if way.startswith("fork"):
                            right &= all(c["computed_tokens"] <= _most_allowed(way, trunk, number) for c in cases)
                    rows.append(row)
    return {"benchmark": "fork", "suffix_tokens": SUFFIX, "rounds": rounds, "within_bounds": right, "cases": rows}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trunks", type=int, nargs="+", default=[1024, 4096, 8192])
    parser.add_argument("--copies", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=70_000, help="prompt tokens of a `spawned` case")
    arguments = parser.parse_args()
    result = anyio.run(measure, arguments.trunks, arguments.copies, arguments.rounds, arguments.most)
    print(json.dumps(result))
    sys.exit(0 if result["within_bounds"] else 1)


if __name__ == "__main__":
    main()
