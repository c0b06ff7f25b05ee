"""From token trees to what is trained: a trunk that is computed once, and the branches that grow from it.

Owns the training tree: spans of tokens, each with a mask of those to train. Invariants: only sampled tokens are
trained (what the model was given is never a target); a tree's trunk is what all its contexts share, so a fork's
prefix is computed once and its gradient counted once. Knows no tasks and no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.context import Origin, Segment


@dataclass(frozen=True, kw_only=True)
class Span:
    """Tokens, and for each whether it is trained."""

    tokens: list[int]
    mask: list[bool]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Contexts with a common beginning; `branches` is empty where there is but one."""

    trunk: Span
    branches: tuple[Span, ...] = ()


def tree_of(heads: Sequence[Segment]) -> Tree:
    """The contexts that end at `heads`, in order, over the segments that all of them begin with."""
    paths = [list(head.path())[::-1] for head in heads]
    shared = 0
    while all(len(path) > shared and path[shared] is paths[0][shared] for path in paths):
        shared += 1
    branches = (_span(path[shared:]) for path in paths if len(path) > shared)
    return Tree(trunk=_span(paths[0][:shared]), branches=tuple(branches))


def _span(segments: Sequence[Segment]) -> Span:
    tokens: list[int] = []
    mask: list[bool] = []
    for segment in segments:
        tokens.extend(segment.tokens)
        mask.extend([segment.origin is Origin.SAMPLED] * len(segment.tokens))
    return Span(tokens=tokens, mask=mask)


def save_trees(path: Path, trees: Iterable[Tree]) -> None:
    """Write trees as one npz: all spans end to end, their lengths, and the tree each belongs to, its trunk first."""
    spans = [(n, span) for n, tree in enumerate(trees) for span in (tree.trunk, *tree.branches)]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        tokens=np.concatenate([np.array(span.tokens, np.uint16) for _, span in spans]),
        mask=np.concatenate([np.array(span.mask, np.bool_) for _, span in spans]),
        lengths=np.array([len(span.tokens) for _, span in spans], np.int32),
        trees=np.array([n for n, _ in spans], np.int32),
    )
