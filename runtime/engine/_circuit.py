"""Whether to ask a server that keeps failing. Pure: it is told the time and the chances, and waits for nothing.

Owns the state of one circuit. *Closed*: everybody asks. After `FAILURES` in a row, whoever's they were, it *opens*:
nobody asks until a pause is over. Then one *probe* may ask; what comes of it closes the circuit, or opens it for a
pause twice as long. Pauses have jitter, so that several clients of one server do not come back in step.

Invariants: while it is open at most one request is under way, and not more than one begins in a pause; a success,
anybody's, closes it; a probe that never says what came of it (it was cancelled) is replaced after its pause.
"""

from __future__ import annotations

import random

__all__ = ["FAILURES", "FIRST_PAUSE_S", "LONGEST_PAUSE_S", "Circuit"]

# More than one request's own attempts, so that a request which is the cause of its failures does not stop the others;
# few enough that ten thousand agents find out together.
FAILURES = 12
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0  # a server's restart takes half a minute: no longer than that again is lost


class Circuit:
    """One server's."""

    def __init__(self, chances: random.Random | None = None) -> None:
        self._chances = chances or random.Random()
        self._failures = 0
        self._pause_s = 0.0  # 0: closed
        self._until = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether the server counts as gone."""
        return self._pause_s > 0

    def asks(self, now: float) -> bool:
        """Whether a request may be sent now; if the circuit is open it is the probe, and no other is for a while."""
        if not self.open:
            return True
        if now < self._until:
            return False
        self._until, self._probing = now + self._jittered(), True
        return True

    def wait_s(self, now: float) -> float:
        """How long until somebody may ask."""
        return max(0.0, self._until - now) if self.open else 0.0

    def succeeded(self) -> None:
        """A request was answered."""
        self._failures, self._pause_s, self._probing = 0, 0.0, False

    def failed(self, now: float) -> bool:
        """A request was not answered as it should be. Returns whether this has opened the circuit."""
        if self.open:
            if self._probing:  # the others were under way when it opened, and are no news
                self._probing = False
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                self._until = now + self._jittered()
            return False
        self._failures += 1
        if self._failures < FAILURES:
            return False
        self._pause_s = FIRST_PAUSE_S
        self._until = now + self._jittered()
        return True

    def _jittered(self) -> float:
        return self._pause_s * self._chances.uniform(0.5, 1.5)
