"""A simulated week of a run of two hundred agents, with faults, on trio's virtual clock.

    python -m benchmarks.soak [--days 7] [--agents 200] [--naps 2] [--seed 0]

The lead keeps `agents` copies at work, a wave a day and a half; each takes its turns hours apart and finishes.
Meanwhile the engine is slow, fails single requests, is flushed, and is gone for up to a minute several times a day; a
lead that loses a request is followed by another. What a run keeps on purpose, its tree of tokens, is what its turns put
there; memory that grows otherwise would be a leak. So the week is lived twice, each time in a process of its own: once
plainly, for the resident memory at the end of each day; once under `tracemalloc`, whose own tables would be resident
too, for what is allocated, which is given as it is and less what replaying the journal in a fresh state holds
(`unexplained`). Slopes are over the days after the first. Prints one JSON object; exits with 1 where an agent has no
outcome, or one that nothing explains.
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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

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
NAP = "a day"
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Weathered(ScriptedEngine):
    """An engine with outages, lost requests and slow ones, all by seed. Counts what it did to its callers."""

    def __init__(self, days: int, agents: int, naps: int, chances: random.Random) -> None:
        super().__init__(
            text_policy(tiny_chat(), self._decide), model=tiny_model(), pool_tokens=200_000, running_requests=64
        )
        self.days, self.agents = days, agents
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
        _, nap, own = text.rpartition(f"Your task: {NAP}")
        if nap:
            done = own.count('"name": "calc"')
            return call("calc", expression=f"{done}+1") if done < self.naps else call("finish", result="slept")
        if anyio.current_time() >= self.days * DAY_S:
            return call("finish", result="it is over")
        return call("fork", tasks=[NAP] * self.agents)

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


async def soak(days: int, agents: int, naps: int, seed: int, directory: Path) -> dict[str, Any]:
    """The week. Its clock begins at 0."""
    engine = Weathered(days, agents, naps, random.Random(seed))
    limits = Budget(agents=agents + 1, sampled_tokens=None, turns=None)
    marks: list[tuple[float, float, int]] = []
    leads = 0
    async with anyio.create_task_group() as group, Swarm(engine, directory, budget=limits) as swarm:
        group.start_soon(engine.weather)

        async def watch() -> None:
            while True:
                await anyio.sleep(DAY_S)
                turns = sum(agent.turns for agent in swarm.state.agents.values())
                marks.append((resident_mib(), tracemalloc.get_traced_memory()[0] / 2**20, turns))

        group.start_soon(watch)
        while anyio.current_time() < days * DAY_S:
            leads += 1
            await (await swarm.start("Work.")).result()
        lasted = anyio.current_time() / DAY_S
        outcomes = Counter(str(agent.outcome) for agent in swarm.state.agents.values())
        turns = sum(agent.turns for agent in swarm.state.agents.values())
        group.cancel_scope.cancel()
        layout = swarm.layout
    before = tracemalloc.get_traced_memory()[0]
    held = load(layout)
    record = (tracemalloc.get_traced_memory()[0] - before) / max(turns, 1)
    # Each wave whole: a fork is recorded for all its copies, or for none.
    assert (len(held.agents) - leads) % agents == 0
    assert all(agent.outcome for agent in held.agents.values())
    steady = marks[1:] or marks
    span = max(len(steady) - 1, 1)
    return {
        "days": round(lasted, 2),
        "agents": len(held.agents),
        "at_once": agents,
        "leads": leads,
        "turns": turns,
        "turns_a_day": round((steady[-1][2] - steady[0][2]) / span),
        "outcomes": dict(outcomes),
        "faults": dict(engine.faults),
        "resident_by_day": [round(mark[0], 1) for mark in marks],
        "resident": (steady[-1][0] - steady[0][0]) / span,
        "allocated": (steady[-1][1] - steady[0][1]) / span,
        "record": record,
    }


def week(days: int, agents: int, naps: int, seed: int, *, traced: bool) -> dict[str, Any]:
    """One, in this process."""
    to_stderr()
    if traced:
        tracemalloc.start()
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        return anyio.run(
            soak,
            *(days, agents, naps, seed, Path(directory)),
            backend="trio",
            backend_options={"clock": MockClock(autojump_threshold=0)},
        )


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--naps", type=int, default=2, help="turns of each agent before its last")
    parser.add_argument("--seed", type=int, default=0)
    asked = vars(parser.parse_args())
    began = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        plain, traced = (processes.submit(week, **asked, traced=traced).result() for traced in (False, True))
    allocated = traced["allocated"]
    unexplained = allocated - traced["record"] * traced["turns_a_day"] / 2**20
    found = {
        "benchmark": "soak",
        **{name: value for name, value in plain.items() if name not in ("resident", "allocated", "record")},
        "MiB_a_day_resident": round(plain["resident"], 3),
        "MiB_a_day_allocated": round(allocated, 3),
        "MiB_a_day_unexplained": round(unexplained, 3),
        "KiB_a_turn_of_the_record": round(traced["record"] / 1024, 2),
        "wall_s": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(found))
    explained = {str(Outcome.FINISHED), str(Outcome.FAILED), str(Outcome.CANCELLED)}
    return 0 if set(found["outcomes"]) <= explained and found["days"] >= asked["days"] else 1


if __name__ == "__main__":
    sys.exit(main())
