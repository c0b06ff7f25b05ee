"""From token trees to training rows.

Owns the row: the tokens of one context and a mask of those to train. Invariants: only sampled tokens are trained
(what the model was given is never a target); a sampled segment that several contexts share is trained in the first
of them only, so forking does not repeat the gradient of the shared prefix. Knows no tasks and no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.context import Origin, Segment


@dataclass(frozen=True, kw_only=True)
class Row:
    """One context. `group` numbers the survey: a survey is right when all of its rows are."""

    tokens: list[int]
    mask: list[bool]
    group: int = 0


def rows_of(heads: Sequence[Segment], group: int = 0) -> list[Row]:
    """One row for each head, in order; a head that adds nothing sampled gives no row."""
    trained: set[int] = set()
    rows = []
    for head in heads:
        tokens: list[int] = []
        mask: list[bool] = []
        for segment in reversed(list(head.path())):
            fresh = segment.origin is Origin.SAMPLED and id(segment) not in trained
            if fresh:
                trained.add(id(segment))
            tokens.extend(segment.tokens)
            mask.extend([fresh] * len(segment.tokens))
        if any(mask):
            rows.append(Row(tokens=tokens, mask=mask, group=group))
    return rows


def save_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as one npz: all tokens and masks end to end, and the lengths and groups that part them."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        tokens=np.concatenate([np.array(row.tokens, np.uint16) for row in rows]),
        mask=np.concatenate([np.array(row.mask, np.bool_) for row in rows]),
        lengths=np.array([len(row.tokens) for row in rows], np.int32),
        groups=np.array([row.group for row in rows], np.int32),
    )
