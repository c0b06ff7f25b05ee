"""A simulated week of a run of two hundred agents, with faults, on trio's virtual clock.

    python -m benchmarks.soak [--days 7] [--agents 200] [--naps 2] [--seed 0]

The lead keeps `agents` copies at work, a wave a day; each takes its turns hours apart and finishes. Meanwhile the
engine is slow, fails single requests, is flushed, and is gone for up to a minute several times a day. What a run keeps
on purpose, its tree of tokens, is what its turns put there; memory that grows otherwise would be a leak. So resident
memory is read at the end of each day, and the slope over the days after the first is given twice: as it is, and less
what replaying the journal so far in a fresh state holds (`unexplained`). Prints one JSON object; exits with 1 where an
agent has no outcome, or a wrong one.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import anyio
from trio.testing import MockClock

from agents.context import Segment
from agents.host import Outcome
from runtime import Budget, Swarm
from runtime.cli._logs import to_stderr
from runtime.engine.base import EngineUnavailable, Generation, Sampling
from runtime.engine.scripted import ScriptedEngine, text_policy
from runtime.recorder import load
from tests.support import call, tiny_chat, tiny_model

DAY_S = 86_400.0
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Weathered(ScriptedEngine):
    """An engine with outages, lost requests and slow ones, all by seed. Counts what it did to its callers."""

    def __init__(self, days: int, agents: int, naps: int, chances: random.Random) -> None:
        super().__init__(
            text_policy(tiny_chat(), self._decide), model=tiny_model(), pool_tokens=200_000, running_requests=64
        )
        self.days, self.agents = days, agents
        self.began = -1.0
        self.chances = chances
        self.naps = naps
        self.gone = False
        self.faults: Counter[str] = Counter()

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """See Engine.generate."""
        if self.gone:
            self.faults["asked while gone"] += 1
            raise EngineUnavailable("connection refused")
        # About a day until the slowest of a wave has taken all its turns.
        await anyio.sleep(self.chances.uniform(1, DAY_S / (self.naps + 1.2)))
        if self.gone or self.chances.random() < 0.01:
            self.faults["lost"] += 1
            raise EngineUnavailable("connection reset")
        return await super().generate(context, sampling, session=session)

    def _decide(self, text: str) -> str:
        own = text.rpartition("Your task: ")[2] if "Your task: " in text else ""
        if own:
            done = own.count('"name": "calc"')
            return call("calc", expression=f"{done}+1") if done < self.naps else call("finish", result="slept")
        waves, now = text.count('"name": "fork"'), anyio.current_time()
        self.began = now if self.began < 0 else self.began
        if now - self.began >= self.days * DAY_S:
            return call("finish", result=f"{waves} waves")
        return call("fork", tasks=["a day"] * self.agents)

    async def healthy(self) -> bool:
        """Whether there is no outage."""
        return not self.gone

    async def weather(self) -> None:
        """Outages and flushes, for ever."""
        while True:
            await anyio.sleep(self.chances.uniform(0.5, 6) * 3600)
            self.gone = True
            self.faults["outage"] += 1
            await anyio.sleep(self.chances.uniform(1, 60))
            self.tree.flush()
            self.gone = False


def resident_mib() -> float:
    """What this process has in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def soak(days: int, agents: int, naps: int, seed: int, directory: Path) -> dict[str, object]:
    """The week."""
    engine = Weathered(days, agents, naps, random.Random(seed))
    limits = Budget(agents=agents + 1, sampled_tokens=None, turns=None)
    marks: list[tuple[float, float, int]] = []
    async with anyio.create_task_group() as group, Swarm(engine, directory, budget=limits) as swarm:
        group.start_soon(engine.weather)

        async def watch() -> None:
            while True:
                await anyio.sleep(DAY_S)
                turns = sum(agent.turns for agent in swarm.state.agents.values())
                marks.append((resident_mib(), tracemalloc.get_traced_memory()[0] / 2**20, turns))

        group.start_soon(watch)
        began = anyio.current_time()
        lead = await swarm.start("Work.")
        result = await lead.result()
        lasted = (anyio.current_time() - began) / DAY_S
        outcomes = Counter(str(agent.outcome) for agent in swarm.state.agents.values())
        turns = sum(agent.turns for agent in swarm.state.agents.values())
        group.cancel_scope.cancel()
        layout = swarm.layout
    before = tracemalloc.get_traced_memory()[0]
    held = load(layout)
    state_mib = (tracemalloc.get_traced_memory()[0] - before) / 2**20
    waves = int(result.text.split()[0])
    assert len(held.agents) == waves * agents + 1
    steady = marks[1:] or marks
    span = max(len(steady) - 1, 1)
    turns_a_day = (steady[-1][2] - steady[0][2]) / span
    traced = (steady[-1][1] - steady[0][1]) / span
    return {
        "benchmark": "soak",
        "days": round(lasted, 2),
        "agents": len(held.agents),
        "at_once": agents,
        "turns": turns,
        "turns_a_day": round(turns_a_day),
        "result": result.text,
        "outcomes": dict(outcomes),
        "faults": dict(engine.faults),
        "MiB_a_day_resident": round((steady[-1][0] - steady[0][0]) / span, 3),
        "MiB_a_day_allocated": round(traced, 3),
        "KiB_a_turn_of_the_record": round(state_mib * 1024 / max(turns, 1), 2),
        "MiB_a_day_unexplained": round(traced - state_mib / max(turns, 1) * turns_a_day, 3),
        "MiB_by_day": [round(mark[0], 1) for mark in marks],
    }


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--naps", type=int, default=2, help="turns of each agent before its last")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    to_stderr()
    tracemalloc.start()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        found = anyio.run(
            soak,
            *(asked.days, asked.agents, asked.naps, asked.seed, Path(directory)),
            backend="trio",
            backend_options={"clock": MockClock(autojump_threshold=0)},
        )
    print(json.dumps(found | {"wall_s": round(time.perf_counter() - began, 1)}))
    accounted = set(found["outcomes"]) <= {str(Outcome.FINISHED), str(Outcome.FAILED)}  # type: ignore[call-overload]
    return 0 if accounted and found["days"] >= asked.days else 1  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
