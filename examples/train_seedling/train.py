"""Trains the seedling on rows: `python -m examples.train_seedling.train DATA OUT --minutes 45`.

Owns the optimisation: drills first, then traces with a few drills left in, one learning-rate schedule over both.
Invariants: seeds fixed; a batch holds rows of one length (about) and at most `--batch-tokens` tokens; the loss is the
mean over trained tokens. The schedule follows the clock, because what is fixed on a laptop is the time. Knows rows
only: no text, no harness. Runs under the engine environment's Python (torch, numpy, safetensors).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from examples.train_seedling.model import Seedling, Shape, write_config
from examples.train_seedling.plant import plant

SHORT = 480  # tokens: a step on short traces costs half as much and teaches the same steps


class Rows:
    """The rows of one npz."""

    def __init__(self, path: Path) -> None:
        stored = np.load(path)
        self.tokens, self.mask = stored["tokens"], stored["mask"]
        self.lengths, self.groups = stored["lengths"], stored["groups"]
        self.starts = np.cumsum(self.lengths) - self.lengths

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] padded on the right (attention is causal: nothing sees the padding), and their mask."""
        longest = padded(self.lengths[rows].max())
        tokens = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros((len(rows), longest), np.bool_)
        for i, row in enumerate(rows):
            span = slice(self.starts[row], self.starts[row] + self.lengths[row])
            tokens[i, : self.lengths[row]] = self.tokens[span]
            mask[i, : self.lengths[row]] = self.mask[span]
        return torch.from_numpy(tokens), torch.from_numpy(mask)

    def batches(self, batch_tokens: int, random: np.random.Generator | None) -> Iterator[np.ndarray]:
        """Each row once; shuffled, but for a length that is about the same within a batch."""
        noise = random.normal(0, 0.08, len(self.lengths)) if random is not None else 0.0
        order = np.argsort(np.log(self.lengths) + noise, kind="stable")
        batches, first = [], 0
        for i in range(1, len(order) + 1):
            if i == len(order) or padded(self.lengths[order[first : i + 1]].max()) * (i + 1 - first) > batch_tokens:
                batches.append(order[first:i])
                first = i
        for i in random.permutation(len(batches)) if random is not None else range(len(batches)):
            yield batches[i]

    def forever(self, batch_tokens: int, random: np.random.Generator) -> Iterator[np.ndarray]:
        while True:
            yield from self.batches(batch_tokens, random)


def padded(length: int) -> int:
    """Lengths are rounded up so that shapes recur: with ever new ones a fifth of the time went to malloc."""
    return (int(length) + 31) // 32 * 32


def forward(model: Seedling, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, whether each trained token is the likeliest, and the batch row of each trained token."""
    rows, at = mask[:, 1:].nonzero(as_tuple=True)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.hidden(tokens[:, :-1])[rows, at]
        logits = model.logits(hidden).float()
    targets = tokens[:, 1:][rows, at]
    return F.cross_entropy(logits, targets), logits.detach().argmax(-1) == targets, rows


@torch.no_grad()
def measure(model: Seedling, rows: Rows, surveys: int | None = None) -> dict[str, float]:
    """Share of tokens, rows and whole surveys (all rows of one) on which greedy decoding agrees with the teacher.

    A lower bound of what the model answers right: where every token agrees, decoding writes the same trace.
    """
    chosen = np.unique(rows.groups)[:surveys]
    right, total, exact = 0, 0, {}
    for batch in rows.batches(32768, None):
        batch = batch[np.isin(rows.groups[batch], chosen)]
        if not len(batch):
            continue
        _, hits, at = forward(model, *rows.batch(batch))
        right, total = right + int(hits.sum()), total + len(hits)
        for i, row in enumerate(batch):
            exact[int(row)] = bool(hits[at == i].all())
    by_group: dict[int, list[bool]] = {}
    for row, ok in exact.items():
        by_group.setdefault(int(rows.groups[row]), []).append(ok)
    return {
        "tokens": right / total,
        "rows": sum(exact.values()) / len(exact),
        "surveys": sum(all(oks) for oks in by_group.values()) / len(by_group),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--init", type=Path, help="a directory to start from")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--drill-share", type=float, default=0.15, help="of the time, drills alone at the start")
    parser.add_argument("--steps-share", type=float, default=0.3, help="of the batches after, steps among the traces")
    parser.add_argument("--short-until", type=float, default=0.45, help="of the time, short traces only")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    train(options)


def train(options: argparse.Namespace) -> None:
    random = np.random.default_rng(options.seed)
    if options.init:
        model = Seedling.load(options.init)
    else:
        model = Seedling(Shape(num_hidden_layers=options.layers))
        plant(model)
    files = {"d": "drills", "s": "steps", "t": "traces"}
    sources = {source: Rows(options.data / f"{name}.npz") for source, name in files.items()}
    heldout = Rows(options.data / "heldout.npz")
    batches = {source: rows.forever(options.batch_tokens, random) for source, rows in sources.items()}
    optim = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    options.out.mkdir(parents=True, exist_ok=True)
    log = (options.out / "curve.jsonl").open("w")
    start, checked, step, seen = time.monotonic(), 0.0, 0, 0
    recent: dict[str, list[float]] = {source: [] for source in sources}
    while True:
        spent = (time.monotonic() - start) / 60
        done = min(1.0, spent / options.minutes)
        early = done < options.drill_share and not options.init
        source = "d" if early else "s" if random.random() < options.steps_share else "t"
        rows = next(batches[source])
        if source == "t" and done < options.short_until and sources[source].lengths[rows].max() > SHORT:
            continue
        tokens, mask = sources[source].batch(rows)
        # Warm-up over a hundred steps, then level for a third, then a cosine to a fiftieth.
        shape = min(1.0, (step + 1) / 100)
        shape *= 0.02 + 0.49 * (1 + math.cos(math.pi * max(0.0, done - 0.3) / 0.7))
        optim.param_groups[0]["lr"] = options.rate * shape
        loss, hits, _ = forward(model, tokens, mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        optim.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + tokens.numel()
        recent[source].append(hits.float().mean().item())
        if step % 50 == 0 or done == 1.0:
            entry: dict[str, object] = {
                "step": step,
                "minutes": round(spent, 2),
                "tokens": seen,
                "loss": round(loss.item(), 4),
            }
            entry |= {f"right_{s}": round(sum(r) / len(r), 4) for s, r in recent.items() if r}
            recent = {source: [] for source in sources}
            if done == 1.0 or spent - checked > 5.0:
                checked = spent
                entry["heldout"] = measure(model, heldout, None if done == 1.0 else 15)
                save(model, options)
            log.write(json.dumps(entry) + "\n")
            log.flush()
            print(json.dumps(entry), flush=True)
        if done == 1.0:
            write_stages(options, step, seen)
            return


def write_stages(options: argparse.Namespace, steps: int, tokens: int) -> None:
    """stages.json: how these weights came to be, the stage they started from first."""
    stages = json.loads((options.init / "stages.json").read_bytes()) if options.init else []
    points = [json.loads(line) for line in (options.out / "curve.jsonl").read_text().splitlines()]
    command = ["python -m examples.train_seedling.train", *sys.argv[1:]]
    stages.append(
        {
            "command": " ".join(command),
            "seed": options.seed,
            "minutes": options.minutes,
            "steps": steps,
            "tokens": tokens,
            "curve": [point for point in points if "heldout" in point],
        }
    )
    (options.out / "stages.json").write_text(json.dumps(stages, indent=1) + "\n")


def save(model: Seedling, options: argparse.Namespace) -> None:
    model.save(options.out)
    ids = {t["content"]: t["id"] for t in json.loads((options.data / "tokenizer.json").read_bytes())["added_tokens"]}
    write_config(options.out, model.shape, eos=ids["<|im_end|>"], bos=ids["<|endoftext|>"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (options.out / name).write_bytes((options.data / name).read_bytes())
    (options.out / "ramet.json").write_text('{"terse": true}\n')


if __name__ == "__main__":
    main()
