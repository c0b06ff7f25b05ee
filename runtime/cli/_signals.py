"""Stopping in order when a person or a supervisor asks for it.

Owns SIGINT and SIGTERM while a command works. Invariants: the first signal cancels the work, which then cleans up
(journal, server) while we wait; a second one ends the process at once, which is safe: a journal survives it at any
byte, and a managed server ends with us. Knows nothing of what is being cancelled.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from runtime.errors import INTERRUPTED, Interrupted

__all__ = ["run_until_signal"]

T = TypeVar("T")


def run_until_signal(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` to its end and return what it returns. Raises Interrupted if a signal cut it short.

    Errors of `work` come as they are or in an exception group.
    """
    return anyio.run(_until_signal, work)


async def _until_signal(work: Callable[[], Awaitable[T]]) -> T:
    caught: list[int] = []
    outcome: list[T] = []
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def listen() -> None:
                async for number in signals:
                    if caught:
                        os._exit(INTERRUPTED)
                    caught.append(number)
                    scope.cancel(f"signal {number}")

            group.start_soon(listen)
            with scope:
                outcome.append(await work())
            group.cancel_scope.cancel()
    if not outcome:
        raise Interrupted(caught[0])
    return outcome[0]
