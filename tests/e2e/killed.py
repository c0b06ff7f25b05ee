"""A process that begins a run and says when a copy has taken a turn: to be killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from agents.chat import Chat
from runtime.engine.sglang import SGLang
from runtime.records import Record, Sampled
from runtime.swarm import Swarm
from tests.e2e.forced import Forced
from tests.support import survey


async def main(directory: Path) -> None:
    """Run the survey of `directory`."""

    def observe(record: Record) -> None:
        if isinstance(record, Sampled) and record.agent != "a1":
            print("a copy has sampled", flush=True)

    async with SGLang.connect(os.environ["E2E_URL"], api_key=os.environ["E2E_KEY"]) as engine:
        chat = Chat.load((await engine.capacity()).model)
        async with Swarm(Forced(engine, chat, survey), directory, observers=[observe]) as swarm:
            await (await swarm.start("What do the ledgers add up to?")).result()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
