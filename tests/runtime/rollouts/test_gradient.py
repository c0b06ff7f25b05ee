"""Segment rows have the gradient of independent rollouts: a model's own, in fp32, over random trees.

The reference is not made by the estimators: each agent's whole path, its advantage and its weight are worked out here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from runtime.engine.base import EngineUnavailable
from runtime.engine.environment import locate, variables
from runtime.rollouts.credit import Row, independent, rows, segment
from runtime.rollouts.schema import Rollout
from tests.runtime.rollouts.trees import VOCABULARY, grow

TREES = 100
TOLERANCE = 1e-6
WIDTH = 8
Plain = dict[str, Any]


def reference(group: list[Rollout]) -> list[list[Plain]]:
    """A row for each leaf of each attempt: all that was sampled on its path, with (R - b) / K."""
    scores = [{term.agent: term.score or 0.0 for term in one.head.terms} for one in group]
    baseline = sum(sum(each.values()) / len(each) for each in scores) / len(group)
    out = []
    for one, score in zip(group, scores, strict=True):
        made = []
        for leaf in one.head.leaves:
            path = one.path(leaf.edge)
            made.append(
                {
                    "tokens": [token for edge in path for token in edge.tokens],
                    "mask": [mine for edge in path for mine in edge.sampled],
                    "advantage": (score[leaf.agent] - baseline) / len(one.head.leaves),
                }
            )
        out.append(made)
    return out


def plain(made: Iterable[Row]) -> list[Plain]:
    """Rows as the models here take them."""
    return [{"tokens": row.tokens, "mask": row.mask, "advantage": row.advantage} for row in made]


def trees(seed: int) -> list[Plain]:
    """All kinds of rows for each of 100 random trees, in groups of four attempts, as JSON could hold them."""
    rng = Random(seed)
    out: list[Plain] = []
    for _ in range(TREES // 4):
        group = [grow(rng, f"r{number}", plain=True) for number in range(4)]
        kinds = zip(group, reference(group), segment(group), independent(group), strict=True)
        for one, expected, parts, paths in kinds:
            out.append(
                {
                    "reference": expected,
                    "segment": plain(rows(one, parts)),
                    "independent": plain(rows(one, paths)),
                    "denominator": sum(sum(row["mask"]) for row in expected),
                }
            )
    return out


def gradient(weights: np.ndarray, embedding: np.ndarray, tree_rows: list[Plain], denominator: int) -> np.ndarray:
    """Of the loss, averaged over tokens, by hand, for logits = W h with h a fading sum of all past tokens' embeddings.

    d log p(token) / dW = (onehot(token) - p) h^T.
    """
    total = np.zeros_like(weights)
    for row in tree_rows:
        past = np.zeros(WIDTH, dtype=np.float32)
        for token, mine in zip(row["tokens"], row["mask"], strict=True):
            if mine:
                logits = weights @ past
                p = np.exp(logits - logits.max())
                p /= p.sum()
                error = -p
                error[token] += np.float32(1)
                total -= np.float32(row["advantage"] / denominator) * np.outer(error, past)
            past = np.float32(0.9) * past + embedding[token]
    return total


def test_the_gradient_by_hand() -> None:
    """A model whose gradient is written out: over 100 trees, no entry of it differs by more than 1e-6."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32) / 4
    embedding = rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    worst, largest, saved = 0.0, 0.0, 0
    for tree in trees(seed=1):
        expected = gradient(weights, embedding, tree["reference"], tree["denominator"])
        assert expected.dtype == np.float32
        largest = max(largest, float(abs(expected).max()))
        saved += tree["denominator"] - sum(sum(row["mask"]) for row in tree["segment"])
        for kind in ("segment", "independent"):
            found = gradient(weights, embedding, tree[kind], tree["denominator"])
            worst = max(worst, float(abs(found - expected).max()))
    assert worst <= TOLERANCE
    assert largest > 1000 * TOLERANCE  # or else anything would pass
    assert saved > 0  # and the trees do share


def test_a_missing_row_would_show() -> None:
    """The comparison can fail: without the first of the segment rows gradients differ by far more."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32) / 4
    embedding = rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    worst = 0.0
    for tree in trees(seed=1)[:20]:
        expected = gradient(weights, embedding, tree["reference"], tree["denominator"])
        found = gradient(weights, embedding, tree["segment"][1:], tree["denominator"])
        worst = max(worst, float(abs(found - expected).max()))
    assert worst > 1000 * TOLERANCE


@pytest.mark.engine
def test_the_gradient_in_torch(tmp_path: Path) -> None:
    """A recurrent model in PyTorch, all parameters, fp32, 100 trees, the loss summed, not averaged: the same bound."""
    try:
        environment = locate()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    file = tmp_path / "trees.jsonl"
    file.write_text("".join(json.dumps(tree) + "\n" for tree in trees(seed=2)))
    script = Path(__file__).with_name("torch_gradients.py")
    command = [str(environment.python), str(script), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables(environment))
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["trees"] == TREES
    assert max(found["segment"], found["independent"]) <= TOLERANCE
    assert found["largest"] > 1000 * TOLERANCE
