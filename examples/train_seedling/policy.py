"""Policy-gradient steps on rows: `python -m examples.train_seedling.policy MODEL`, driven over stdin and stdout.

Owns the weights that are being trained, in fp32, and the optimiser. Each line that it is sent is one request, JSON:
`{"rows": FILE, "out": DIRECTORY}`; it makes its steps, writes the weights to DIRECTORY and answers with one line. With
`--weaken S` it first writes the model with noise of S times each matrix's own root mean square added, seeded, to
`--out`. Knows no agents, tasks or rewards: a row has an advantage. Runs under the engine environment's Python.

The loss of a step, over its rollouts, is the mean of - sum over tokens of A min(ratio, 2) log p, with the ratio of what
the token's probability is now to what it was when it was sampled, held constant: REINFORCE with truncated importance
weights (Ionides, Truncated Importance Sampling, 2008), linear in A, so segment rows have the gradient of whole paths.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from examples.train_seedling.model import Seedling

MOST_RATIO = 2.0
STEPS = 4  # of one request: its rollouts are dealt out to them
Row = dict[str, Any]


class Piece:
    """Spans of tokens that go on from one point, padded on the right: ids, advantages, and log-probabilities once."""

    def __init__(self, rows: list[tuple[list[int], list[float], list[float]]]) -> None:
        longest = max(len(tokens) for tokens, _, _ in rows)
        shape = (len(rows), longest)
        self.tokens, self.worth, self.before = (np.zeros(shape, t) for t in (np.int64, np.float32, np.float32))
        for n, (tokens, worth, before) in enumerate(rows):
            self.tokens[n, : len(tokens)] = tokens
            self.worth[n, : len(tokens)], self.before[n, : len(tokens)] = worth, before


def pieces(rows: list[Row]) -> list[Piece]:
    """The rows of one rollout, what all of them begin with computed once: it is worth the sum of what it is in each."""
    rows = sorted(rows, key=lambda row: len(row["tokens"]))
    columns = zip(*(row["tokens"] for row in rows), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    # A span's first token is foretold by nothing in it, so it must be one that is not trained.
    while any(shared < len(row["mask"]) and row["mask"][shared] for row in rows):
        shared -= 1
    trunk = [sum(row["advantage"] for row in rows if n < len(row["mask"]) and row["mask"][n]) for n in range(shared)]
    before = [next((row["logprobs"][n] for row in rows if row["mask"][n]), 0.0) for n in range(shared)]
    rest = [
        (
            row["tokens"][shared:],
            [row["advantage"] * mine for mine in row["mask"][shared:]],
            row["logprobs"][shared:],
        )
        for row in rows
        if len(row["tokens"]) > shared
    ]
    return [Piece([(rows[0]["tokens"][:shared], trunk, before)]), *([Piece(rest)] if rest else [])]


def loss_of(model: Seedling, rows: list[Row]) -> tuple[Tensor, Tensor]:
    """The loss of one rollout, and the ratios of its tokens."""
    parts = pieces(rows)
    trunk, *branches = (torch.from_numpy(part.tokens) for part in parts)
    losses, ratios = [], []
    for hidden, part in zip(model.hidden(trunk, branches), parts, strict=True):
        at = torch.from_numpy(part.worth[:, 1:]).nonzero(as_tuple=True)
        logits = model.logits(hidden[at])
        now = -F.cross_entropy(logits, torch.from_numpy(part.tokens[:, 1:])[at], reduction="none")
        ratio = (now.detach() - torch.from_numpy(part.before[:, 1:])[at]).exp()
        losses.append(-(torch.from_numpy(part.worth[:, 1:])[at] * ratio.clamp(max=MOST_RATIO) * now).sum())
        ratios.append(ratio)
    return torch.stack(losses).sum(), torch.cat(ratios)


def learn(model: Seedling, optimiser: torch.optim.Optimizer, file: Path) -> dict[str, float]:
    """A request's steps. Rollouts without a row that is worth anything teach nothing and are left out."""
    began = time.monotonic()
    rollouts: dict[str, list[Row]] = {}
    with file.open() as lines:
        for row in map(json.loads, lines):
            if row["advantage"]:
                rollouts.setdefault(row["rollout"], []).append(row)
    order = list(rollouts.values())
    total, ratios, norms = 0.0, [], []
    for number in range(min(STEPS, len(order))):
        dealt = order[number::STEPS]
        for rows in dealt:
            loss, ratio = loss_of(model, rows)
            (loss / len(dealt)).backward()
            total += loss.item()
            ratios.append(ratio)
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    seen = torch.cat(ratios) if ratios else torch.ones(1)
    return {
        "learned_from": len(order),
        "loss": round(total / max(1, len(order)), 4),
        "ratio": round(seen.mean().item(), 4),
        "truncated": round((seen > MOST_RATIO).float().mean().item(), 5),
        "norm": round(float(np.mean(norms)) if norms else 0.0, 3),
        "seconds": round(time.monotonic() - began, 1),
    }


def weaken(model: Seedling, amount: float, seed: int) -> None:
    """Add noise to every matrix."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight += amount * weight.square().mean().sqrt() * torch.randn(weight.shape, generator=generator)


def save(model: Seedling, source: Path, out: Path) -> None:
    """A directory that an engine can serve."""
    model.save(out)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "ramet.json"):
        shutil.copyfile(source / name, out / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--weaken", type=float, default=0.0)
    parser.add_argument("--out", type=Path, help="where the weakened model goes")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    model = Seedling.load(options.model)
    if options.weaken:
        weaken(model, options.weaken, options.seed)
        save(model, options.model, options.out)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.95), weight_decay=0.0)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        learned = learn(model, optimiser, Path(request["rows"]))
        save(model, options.model, Path(request["out"]))
        print(json.dumps(learned), flush=True)


if __name__ == "__main__":
    main()
