"""Waiting out an engine that is gone.

Owns the knowledge whether the engine of a run has answered, is gone, is back, or is in trouble. Invariants: one agent
looks for it on behalf of all; an outage and its end are recorded once each, and so is what an engine that answers says
of itself; whoever failed before the engine came back goes on without another look. Does not know what the agents want
of the engine.
"""

from __future__ import annotations

import math
import random

import anyio
import structlog

from runtime.engine.base import Engine, EngineUnavailable
from runtime.recorder import Recorder
from runtime.records import Outage

__all__ = ["PATIENCE_SECONDS", "Patience"]

_log = structlog.get_logger(__name__)

# How long an engine that has answered may be gone before the run stops, to be resumed: a server restarts in half a
# minute. First pause between looks, and the longest; with jitter, as several runs may wait for one server.
PATIENCE_SECONDS = 90.0
LOOK_SECONDS, MOST_LOOK_SECONDS = 0.5, 10.0


class Patience:
    """That of one run, `seconds` at most."""

    def __init__(self, engine: Engine, recorder: Recorder, seconds: float) -> None:
        self._engine = engine
        self._recorder = recorder
        self._seconds = seconds
        self._outage = anyio.Lock()  # held by the agent that looks for the engine on behalf of all
        self._back_at = -math.inf  # when it was last seen to be back
        self._has_answered = False  # to this run

    def answered(self) -> None:
        """The engine has taken a turn. Who looks for it, if anybody does, says when it is back."""
        self._has_answered = True
        if not self._outage.locked():
            self._note(self._engine.trouble())

    async def outlasts(self, error: EngineUnavailable) -> bool:
        """Whether the engine was gone, and is back: then the turn is simply due again. False where it answers.

        Raises `error` where it stays away: that is no single agent's failure, so the run stops and can be resumed.
        """
        failed_at = anyio.current_time()
        async with self._outage:
            if self._back_at > failed_at:
                return True
            if await self._engine.healthy():
                self._note(self._engine.trouble())
                return False
            pause_s = LOOK_SECONDS
            self._note(str(error) or type(error).__name__)
            while self._has_answered and anyio.current_time() < failed_at + self._seconds:
                await anyio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, MOST_LOOK_SECONDS)
                if await self._engine.healthy():
                    self._back_at = anyio.current_time()
                    self._note(self._engine.trouble())
                    _log.info("the engine is back", gone_s=round(self._back_at - failed_at, 1))
                    return True
            raise error

    def _note(self, trouble: str) -> None:
        """Record what is new about the engine's trouble, or that there is none any more."""
        outage = self._recorder.state.outage
        if trouble != (outage.reason if outage is not None else ""):
            self._recorder.commit(Outage(reason=trouble, over=not trouble))
