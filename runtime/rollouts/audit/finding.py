"""What an audit finds: hits, as a detector reports them, and rows, as a file holds them.

Owns the row's fields and the order of severities. Knows no detector.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = ["LINE", "Row", "Severity", "one_line"]

LINE = 200  # characters of a quote: enough to find it by, and a row stays a line


class Severity(enum.IntEnum):
    """How sure a hit is to have made the reward worth nothing; written by name."""

    LOW = 1  # worth a look
    MEDIUM = 2  # an attempt, or a habit that is one in most tasks
    HIGH = 3  # what was rewarded is not what was asked for


class Row(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One hit. `segment` is an edge of the rollout, `turn` a turn of it, `span` its tokens.

    A given text's turn is the one that reads it. A row about a series of rollouts has none of these and no rollout.
    `taints`: the edges with tokens that were sampled, or given, after the hit became known there.
    """

    class_: str = msgspec.field(name="class")
    severity: str
    agent: str = ""
    turn: int | None = None
    segment: int | None = None
    span: tuple[int, int] | None = None
    quote: str = ""
    rollout: str = ""
    taints: tuple[int, ...] = ()


def one_line(text: str) -> str:
    """`text` as a quote."""
    line = " ".join(text.split())
    return line if len(line) <= LINE else line[: LINE - 1] + "…"
