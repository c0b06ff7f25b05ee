"""Letters through one workspace: how many a minute, and how soon a waiting agent is woken.

    python -m benchmarks.mail [--letters 10000] [--waiting 100]

Throughput: letters between ten mailboxes, each delivered, found and put away. Latency: letters from another process
(so the watch must notice them) to agents that all wait, until the wait returns. Prints one JSON object; no engine is
needed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import anyio

from workspace import Letter, Post, RunLayout, watch_mail

GAP_S = 0.005  # between the letters whose latency is measured: two hundred a second


def letter(number: int, sender: str, to: str) -> Letter:
    """One with a few lines."""
    return Letter(id=f"l{number}", sender=sender, to=(to,), subject=f"n{number}", body="line\n" * 5, date=time.time())


def throughput(layout: RunLayout, letters: int) -> float:
    """Letters a minute."""
    post, random = Post(layout), Random(1)
    names = [f"b{n}" for n in range(10)]
    began, seen = time.perf_counter(), 0
    for number in range(letters):
        sender, to = random.sample(names, 2)
        post.deliver(letter(number, sender, to))
        if number % 10 == 9:  # everybody takes a turn
            for name in names:
                found = post.unread(name)
                post.read(name, [each.id for each in found])
                seen += len(found)
    assert seen == letters, (seen, letters)
    return letters / (time.perf_counter() - began) * 60


async def latencies(layout: RunLayout, waiting: int, letters: int) -> list[float]:
    """Seconds from a letter's date to the moment at which its agent has it."""
    post = Post(layout)
    found: list[float] = []
    names = [f"w{n}" for n in range(waiting)]
    events = {name: anyio.Event() for name in names}
    stop = anyio.Event()
    for name in names:
        post.open(name)

    def wake(name: str) -> None:
        if name in events:
            events[name].set()

    async def wait(name: str) -> None:
        while len(found) < letters:
            await events[name].wait()
            events[name] = anyio.Event()
            for each in post.unread(name):
                found.append(time.time() - each.date)
                post.read(name, [each.id])
        stop.set()
        for event in events.values():
            event.set()

    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: watch_mail(layout, wake, stop=stop, task_status=task_status))
        for name in names:
            group.start_soon(wait, name)
        sends = [sys.executable, "-m", "benchmarks.mail", "--send", str(layout.root), str(letters), str(waiting)]
        sender = await anyio.open_process(sends, stdout=subprocess.DEVNULL, stderr=None)
        async with sender:
            await stop.wait()
            await sender.wait()
    return found


def send(root: str, letters: int, waiting: int) -> None:
    """The other process."""
    post = Post(RunLayout.open(root))
    for number in range(letters):
        post.deliver(letter(100_000_000 + number, "human", f"w{number % waiting}"))
        time.sleep(GAP_S)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--waiting", type=int, default=100)
    parser.add_argument("--send", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        send(options.send[0], int(options.send[1]), int(options.send[2]))
        return
    with tempfile.TemporaryDirectory() as directory:
        layout = RunLayout.create(Path(directory))
        layout.journal.write_text("{}\n")  # so that the other process finds the run
        a_minute = throughput(layout, options.letters)
        waits = sorted(anyio.run(latencies, layout, options.waiting, 1000))
    print(
        json.dumps(
            {
                "benchmark": "mail",
                "letters": options.letters,
                "letters_a_minute": round(a_minute),
                "waiting": options.waiting,
                "latency_ms_median": round(statistics.median(waits) * 1e3, 1),
                "latency_ms_p99": round(waits[int(len(waits) * 0.99)] * 1e3, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
