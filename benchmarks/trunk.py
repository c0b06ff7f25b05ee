"""What a fork of a long context costs in the runtime, the engine aside: time and memory a copy.

    python -m benchmarks.trunk [--tokens 131072] [--copies 64]

Beside it, in the same run, what a runtime pays that copies its contexts: the list of token ids, and its JSON. Prints
one JSON object; milliseconds and KiB a copy, medians of several forks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import anyio

from runtime import Budget, Swarm
from runtime.engine.scripted import ScriptedEngine
from tests.support import tiny_model

ROUNDS = 9


async def measure(tokens: int, copies: int) -> dict[str, object]:
    """One swarm with a trunk of `tokens`, forked `ROUNDS` times into `copies`."""

    async def held(computed: int, sampled: int) -> None:
        await anyio.sleep_forever()

    engine = ScriptedEngine(
        lambda _: [0], model=tiny_model(), context_tokens=2 * tokens, pool_tokens=4 * tokens, pace=held
    )
    tasks = [f"part {n} of the work" for n in range(copies)]
    times, memory = [], []
    budget = Budget(agents=2 * copies * ROUNDS + 2, sampled_tokens=None)
    with tempfile.TemporaryDirectory() as directory:
        async with Swarm(engine, Path(directory), budget=budget) as swarm:
            lead = await swarm.start("x" * tokens)
            trunk = lead.state.head
            for _ in range(ROUNDS):
                tracemalloc.start()
                before = tracemalloc.get_traced_memory()[0]
                swarm._host.family.copy(lead.state, trunk, tasks, called_by=None)
                memory.append((tracemalloc.get_traced_memory()[0] - before) / copies / 1024)
                tracemalloc.stop()
                began = time.perf_counter()
                swarm._host.family.copy(lead.state, trunk, tasks, called_by=None)
                times.append((time.perf_counter() - began) / copies * 1e3)
            length = trunk.length
            began = time.perf_counter()
            ids = trunk.ids()
            copied = (time.perf_counter() - began) * 1e3
            began = time.perf_counter()
            json.dumps(ids)
            encoded = (time.perf_counter() - began) * 1e3
    return {
        "benchmark": "trunk",
        "trunk_tokens": length,
        "copies": copies,
        "fork_ms_a_copy": round(statistics.median(times), 4),
        "fork_KiB_a_copy": round(statistics.median(memory), 2),
        "copying_ids_ms": round(copied, 3),
        "copying_ids_KiB": round(length * 8 / 1024, 1),
        "encoding_ids_ms": round(encoded, 3),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--copies", type=int, default=64)
    arguments = parser.parse_args()
    print(json.dumps(anyio.run(measure, arguments.tokens, arguments.copies)))


if __name__ == "__main__":
    main()
