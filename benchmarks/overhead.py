"""What the orchestrator itself costs: processor time a turn, and memory an agent.

    python -m benchmarks.overhead [--agents 200 1000 10000] [--bare-up-to 1000]

Agents of ten turns each (nine calculations and a finish), journal and history on, against a stub server in another
process. Beside it, in the same run, a bare anyio + httpx loop that sends the same requests through a limiter of the
same size and decodes the replies. Each case runs in a process of its own; prints one JSON object: milliseconds of
processor time a turn, KiB of resident memory an agent, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import httpx  # noqa: TID251 - the bare loop that we compare ourselves with
import msgspec

from runtime import Budget, SGLang, Swarm
from tests.support import call, tiny_chat, tiny_model

TURNS = 10
CONNECTIONS = 256


def resident() -> int:
    """Bytes this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def ours(url: str, agents: int, directory: Path) -> dict[str, float]:
    """All agents in one swarm."""
    async with SGLang.connect(url, connections=CONNECTIONS) as engine:
        budget = Budget(agents=agents + 1, sampled_tokens=None, turns=None)
        async with Swarm(engine, directory, budget=budget) as swarm:
            before, began = resident(), time.process_time()
            handles = [await swarm.start(f"task {n}") for n in range(agents)]
            for handle in handles:
                await handle.result()
            spent, held = time.process_time() - began, resident() - before
        turns = swarm.statistics().turns
    assert turns == agents * TURNS, turns
    return {"ms_a_turn": spent / turns * 1e3, "KiB_an_agent": held / agents / 1024}


async def bare(url: str, agents: int, bodies: list[bytes]) -> dict[str, float]:
    """The same requests, and nothing else."""
    decoder = msgspec.json.Decoder()
    limiter = anyio.CapacityLimiter(CONNECTIONS)
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:

        async def one(name: int) -> None:
            for body in bodies:
                content = body.replace(b"SESSION", b"bare-%d-%d" % (os.getpid(), name))
                async with limiter:
                    response = await client.post(f"{url}/generate", content=content)
                decoder.decode(response.content)

        before, began = resident(), time.process_time()
        async with anyio.create_task_group() as group:
            for number in range(agents):
                group.start_soon(one, number)
        spent, held = time.process_time() - began, resident() - before
    return {"ms_a_turn": spent / agents / TURNS * 1e3, "KiB_an_agent": held / agents / 1024}


async def requests_of_one(url: str, directory: Path) -> list[bytes]:
    """The bodies that one agent's life sends, with a placeholder for its session."""
    async with SGLang.connect(url) as engine, Swarm(engine, directory) as swarm:
        lead = await swarm.start("task 0")
        await lead.result()
        prompts = [s.parent for s in reversed(list(lead.state.head.path())) if s.parent and s.origin == "sampled"]
    tail = (
        b',"rid":"0123456789abcdef0123456789abcdef","session_id":"SESSION","return_logprob":true,"logprob_start_len":-1,'
        b'"stream":false,"sampling_params":{"max_new_tokens":2048,"temperature":0.0,"top_p":1.0,"top_k":-1,'
        b'"skip_special_tokens":false,"no_stop_trim":true,"stop_token_ids":[1,2]}}'
    )
    return [b'{"input_ids":' + prompt.json() + tail for prompt in prompts]


def case(kind: str, agents: int, url: str, backend: str) -> None:
    """One case, in this process."""
    with tempfile.TemporaryDirectory() as directory:
        if kind == "ours":
            measured = anyio.run(ours, url, agents, Path(directory), backend=backend)
        else:
            bodies = anyio.run(requests_of_one, url, Path(directory), backend=backend)
            measured = anyio.run(bare, url, agents, bodies, backend=backend)
    print(json.dumps(measured))


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=[200, 1000, 10_000])
    parser.add_argument("--bare-up-to", type=int, default=1000, help="agents; with more the bare loop is left out")
    parser.add_argument("--backend", default="asyncio", choices=("asyncio", "trio"))
    parser.add_argument("--case", nargs=3, metavar=("KIND", "AGENTS", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        kind, agents, url = arguments.case
        case(kind, int(agents), url, arguments.backend)
        return
    chat = tiny_chat()
    said = [call("calc", expression=f"{n}+{n}") for n in range(TURNS - 1)] + [call("finish", result="done")]
    turns = [[*chat.tokenizer.encode(text), chat.stop_token_ids[0]] for text in said]
    info = {"tokenizer_path": tiny_model(), "max_total_num_tokens": 10**9, "max_req_input_len": 32_768}
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory) / "stub.json"
        settings.write_text(json.dumps({"turns": turns, "info": info}))
        stub = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._stub", str(settings)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert stub.stdout is not None
            url = f"http://127.0.0.1:{stub.stdout.readline().strip()}"
            for agents in arguments.agents:
                for kind in ("bare", "ours") if agents <= arguments.bare_up_to else ("ours",):
                    command = [sys.executable, "-m", "benchmarks.overhead", "--backend", arguments.backend]
                    done = subprocess.run(
                        [*command, "--case", kind, str(agents), url], check=True, capture_output=True, text=True
                    )
                    results[f"{kind}_{agents}"] = json.loads(done.stdout.splitlines()[-1])
        finally:
            stub.kill()
            stub.wait()
    out: dict[str, object] = {"benchmark": "overhead", "turns": TURNS, "backend": arguments.backend}
    for name, measured in results.items():
        out |= {f"{name}_{key}": round(value, 3) for key, value in measured.items()}
    for agents in (agents for agents in arguments.agents if f"bare_{agents}" in results):
        ratio = results[f"ours_{agents}"]["ms_a_turn"] / results[f"bare_{agents}"]["ms_a_turn"]
        out[f"over_bare_{agents}"] = round(ratio, 3)
    first, last = arguments.agents[0], arguments.agents[-1]
    flat = results[f"ours_{last}"]["ms_a_turn"] / results[f"ours_{first}"]["ms_a_turn"]
    out[f"flat_{last}_over_{first}"] = round(flat, 3)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
