"""Whether the answer of a run is right, where somebody knows."""

from __future__ import annotations

import msgspec

__all__ = ["Judgement"]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """`truth` was worked out without the agents."""

    truth: str
    right: bool
