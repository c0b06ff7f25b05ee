"""How large a run may be: live agents in one process, and the length of a journal that is resumed.

    python -m benchmarks.scale [--agents 10000] [--wide 5000] [--deep 50] [--records 1000000]

On the scripted engine. *Live*: one swarm with a chain of forks `deep` generations long, a fork `wide` copies wide, and
the rest on their own; nobody may go on before all of them are alive and have taken a turn, so that all contexts, tasks
and mailboxes exist at once. *Resume*: a journal of so many records, folded by `Swarm(resume=...)`, its agents alive.
*Flat*: processor time a turn at the tenth and at the last of an agent's turns, and what its history file grew by.
Each case runs in a process of its own; prints one JSON object. MiB are of resident memory, at its highest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import anyio
import msgspec

from agents.context import Segment
from agents.host import Outcome, Reply
from runtime import Budget, Swarm
from runtime.engine.base import FinishReason, Generation, Sampling
from runtime.engine.scripted import ScriptedEngine, text_policy
from runtime.records import VERSION, CallEnded, CallStarted, Given, Opened, Sampled, Settings, Started, encode
from tests.support import call, scripted, tiny_chat, tiny_model
from workspace import RunLayout

LIMITS = Budget(agents=1_000_000, sampled_tokens=None, turns=None, depth=1_000)
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def most_mib() -> float:
    """The most memory that this process has had, in MiB."""
    # Not `ru_maxrss`: a process inherits that of whoever started it, though it is another program.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


async def live(agents: int, wide: int, deep: int, directory: Path) -> dict[str, float]:
    """Have them all alive at once, and end them well."""
    everybody = anyio.Event()

    async def pace(computed: int, sampled: int) -> None:
        if sampled:
            await everybody.wait()

    engine = ScriptedEngine(
        text_policy(tiny_chat(), lambda _: call("finish", result="done")),
        model="scale",
        pool_tokens=10**9,
        running_requests=10**6,
        pace=pace,
    )
    before, began = most_mib(), time.perf_counter()
    settings = Settings(budget=LIMITS)
    async with Swarm(engine, directory, settings=settings, chat=tiny_chat()) as swarm:
        lead = await swarm.start("the lead of the wide ones")
        copies = await lead.fork([f"share {n}" for n in range(wide)])
        chain = [await swarm.start("the lead of the deep ones")]
        for depth in range(deep):
            chain += await chain[-1].fork([f"depth {depth}"])
        rest = [await swarm.start(f"task {n}") for n in range(agents - wide - len(chain) - 1)]
        handles = [lead, *copies, *chain, *rest]
        with anyio.fail_after(600):
            while engine.running < len(handles):  # noqa: ASYNC110 (counted by the engine, which tells nobody)
                await anyio.sleep(0.1)
        alive, depths = swarm.state.alive, max(agent.depth for agent in swarm.state.agents.values())
        at_once, born_s = most_mib(), time.perf_counter() - began
        everybody.set()
        for handle in handles:
            assert (await handle.result()).outcome is Outcome.FINISHED
    assert alive == agents, alive
    return {
        "alive": alive,
        "deep": depths,
        "wide": wide,
        "MiB": round(most_mib(), 1),
        "MiB_at_once": round(at_once, 1),
        "MiB_before": round(before, 1),
        "KiB_an_agent": round((at_once - before) * 1024 / agents, 2),
        "born_s": round(born_s, 1),
        "all_s": round(time.perf_counter() - began, 1),
    }


def write_journal(layout: RunLayout, records: int, agents: int = 100) -> int:
    """A journal of about so many records: agents that calculate, turn after turn, and are all alive. Returns bytes."""
    chat = tiny_chat()
    said = _calculation()
    told = tuple(chat.tokenizer.encode("<|im_start|>user\n21\n[a1 t12 | context 5120/32768 | budget 81%]<|im_end|>\n"))
    begun = tuple(chat.begin("", "calculate"))
    segment, lengths = 0, {}
    with layout.journal.open("wb", buffering=1 << 20) as file:

        def write(record: object) -> None:
            file.write(encode(record) + b"\n")  # type: ignore[arg-type]

        write(Opened(version=VERSION, run=layout.run, settings=Settings(model="scale", budget=LIMITS), at=1.0))
        for agent in range(agents):
            segment += 1
            lengths[agent] = len(begun)
            layout.agent(f"a{agent + 1}").mkdir()
            write(Started(agent=f"a{agent + 1}", segment=segment, tokens=begun, task="calculate", at=1.0))
        for number in range((records - agents - 1) // 4):
            agent, at = number % agents, 1.0 + number / 100
            name = f"a{agent + 1}"
            write(
                Sampled(
                    agent=name,
                    segment=segment + 1,
                    tokens=said,
                    logprobs=(-0.125,) * len(said),
                    finish=FinishReason.STOP,
                    prompt_tokens=lengths[agent],
                    cached_tokens=lengths[agent] - len(told),
                    version="v1",
                    at=at,
                )
            )
            write(CallStarted(agent=name, index=0, name="calc", at=at))
            write(CallEnded(agent=name, index=0, reply=Reply(text="21"), at=at))
            write(Given(agent=name, segment=segment + 2, tokens=told, at=at))
            segment += 2
            lengths[agent] += len(said) + len(told)
    return layout.journal.stat().st_size


async def resume(layout: RunLayout) -> dict[str, float]:
    """Open the run as `ramet resume` does, and leave it as it is."""
    began, spent = time.perf_counter(), time.process_time()
    engine = scripted(lambda _: "", pool_tokens=10**9)
    swarm = Swarm(engine, layout.directory, resume=layout, chat=tiny_chat())
    engine._capacity = msgspec.structs.replace(engine._capacity, model="scale")
    took = 0.0
    try:
        async with swarm:
            took, spent = time.perf_counter() - began, time.process_time() - spent
            raise KeyboardInterrupt
    except* KeyboardInterrupt:
        pass
    state = swarm.state
    return {
        "resume_s": round(took, 1),
        "resume_processor_s": round(spent, 1),
        "MiB": round(most_mib(), 1),
        "turns": sum(agent.turns for agent in state.agents.values()),
        "segments": len(state.segments),
    }


class _Instant(ScriptedEngine):
    """Answers at once, at no cost that grows with the context but that of putting together what a server is sent."""

    async def generate(self, context: Segment, sampling: Sampling, *, session: str) -> Generation:
        """The same calculation, whatever the context."""
        context.json()
        said = _calculation()
        return Generation(
            tokens=said,
            logprobs=(-0.125,) * len(said),
            finish=FinishReason.STOP,
            prompt_tokens=context.length,
            cached_tokens=context.length - 1,
        )


@cache
def _calculation() -> tuple[int, ...]:
    chat = tiny_chat()
    return (*chat.tokenizer.encode(call("calc", expression="17+4")), chat.stop_token_ids[0])


async def flat(turns: int, directory: Path) -> dict[str, float]:
    """One agent of many turns: what a turn costs early and late, and that its history only grows at its end."""
    engine = _Instant(lambda _: [], model=tiny_model(), context_tokens=10**8, pool_tokens=10**9)
    marks: list[float] = []
    began: bytes = b""
    limits = Budget(sampled_tokens=None, turns=turns)

    async with Swarm(
        engine, directory, budget=limits, observers=[lambda _: marks.append(time.process_time())]
    ) as swarm:
        lead = await swarm.start("calculate")
        history = swarm.layout.history(lead.id)
        began = history.read_bytes()
        inode = history.stat().st_ino
        assert (await lead.result()).outcome is Outcome.OUT_OF_BUDGET
    assert history.stat().st_ino == inode
    assert history.read_bytes().startswith(began)
    part = len(marks) // 10
    early, late = marks[2 * part] - marks[part], marks[-1] - marks[-1 - part]
    return {
        "turns": turns,
        "ms_a_turn_early": round(early / turns * 10 * 1e3, 3),
        "ms_a_turn_late": round(late / turns * 10 * 1e3, 3),
        "history_KiB": history.stat().st_size // 1024,
    }


def case(kind: str, numbers: list[int]) -> dict[str, float]:
    """One case, in this process."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        directory = Path(place)
        if kind == "live":
            agents, wide, deep = numbers
            return anyio.run(live, agents, wide, deep, directory)
        if kind == "flat":
            return anyio.run(flat, numbers[0], directory)
        layout = RunLayout.create(directory)
        written = write_journal(layout, *numbers)  # line by line: it adds nothing to the most memory
        return {"records": numbers[0], "MB": round(written / 1e6, 1)} | anyio.run(resume, layout)


def measured(kind: str, *numbers: int) -> dict[str, float]:
    """One case, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--case", kind, *map(str, numbers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--wide", type=int, default=5_000)
    parser.add_argument("--deep", type=int, default=50)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=1_000)
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(case(asked.case[0], [int(number) for number in asked.case[1:]])))
        return
    out: dict[str, object] = {"benchmark": "scale"}
    out["live"] = measured("live", asked.agents, asked.wide, asked.deep)
    out["resume"] = measured("resume", asked.records)
    out["flat"] = measured("flat", asked.turns)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
