"""Trains the seedling: `python -m examples.train_seedling.train DATA OUT --minutes 60`.

Owns the optimisation: drills first, then traces (small surveys at first) with drills left in, one learning-rate
schedule over all. Invariants: seeds fixed; a step sees about `--batch-tokens` tokens; the loss is the mean over trained
tokens; a fork's trunk is computed once for all its branches. The schedule follows the clock, because what is fixed on a
laptop is the time. Knows tokens only: no text, no harness. Runs under the engine environment's Python (torch, numpy,
safetensors).

Hidden matrices are moved by Muon (https://kellerjordan.github.io/posts/muon/; torch's own), the rest by AdamW. In most
trees the tokens that names are made of are exchanged for one another at random: then no name has ever been seen, and
what stands there can only be copied.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from examples.train_seedling.model import Seedling, Shape, write_config
from examples.train_seedling.plant import plant, sharpen

AVERAGED = 0.97  # how much of the running mean stays each step: of some thirty steps
EXCHANGED = 0.8  # of the trees have their names' tokens exchanged
SMALL = 4  # files at most, at first: a step costs a third and teaches the same actions

OWN_END = 4.0  # the weight of what the parent does after its copies have answered: two turns, of which little is seen

Piece = tuple[Tensor, Tensor]  # tokens [N, T], and the weight of each: 0 is not trained


class Trees:
    """The trees of one npz."""

    def __init__(self, path: Path) -> None:
        stored = np.load(path)
        self.tokens, self.lengths = stored["tokens"].astype(np.int64), stored["lengths"]
        self.weights = stored["mask"].astype(np.float32)
        self.ends = np.cumsum(self.lengths)
        self.first = np.searchsorted(stored["trees"], np.arange(stored["trees"][-1] + 2))  # span by tree
        for tree in range(len(self)):
            if self.branches(tree):  # the parent's comes first
                own = self.first[tree] + 1
                self.weights[self.ends[own] - self.lengths[own] : self.ends[own]] *= OWN_END

    def __len__(self) -> int:
        return len(self.first) - 1

    def branches(self, tree: int) -> int:
        return int(self.first[tree + 1] - self.first[tree]) - 1

    def pieces(self, trees: list[int], names: np.ndarray | None, random: np.random.Generator | None) -> list[Piece]:
        """The trunk and the groups of branches of one tree, or the trunks of several that have no branches."""
        first, end = self.first[trees[0]], self.first[trees[-1] + 1]
        spans = [int(self.first[tree]) for tree in trees]
        groups = [spans] if len(trees) > 1 else [[int(first)], *self._alike(list(range(first + 1, end)))]
        vocabulary = np.arange(1024)
        if random is not None and names is not None and random.random() < EXCHANGED:
            vocabulary[names] = random.permutation(names)
        return [self._padded(group, vocabulary) for group in groups]

    def _alike(self, spans: list[int]) -> list[list[int]]:
        """Spans of about one length together, so that little is padded."""
        groups: list[list[int]] = []
        for span in sorted(spans, key=lambda span: -self.lengths[span]):
            if not groups or self.lengths[span] < 0.7 * self.lengths[groups[-1][0]]:
                groups.append([])
            groups[-1].append(span)
        return groups

    def _padded(self, spans: list[int], vocabulary: np.ndarray) -> Piece:
        """Padded on the right: attention is causal, nothing sees the padding."""
        longest = max(self.lengths[span] for span in spans)
        tokens, weights = np.zeros((len(spans), longest), np.int64), np.zeros((len(spans), longest), np.float32)
        for i, span in enumerate(spans):
            length = self.lengths[span]
            at = slice(self.ends[span] - length, self.ends[span])
            tokens[i, :length], weights[i, :length] = vocabulary[self.tokens[at]], self.weights[at]
        return torch.from_numpy(tokens), torch.from_numpy(weights)


def forward(model: Seedling, pieces: list[Piece]) -> tuple[Tensor, Tensor]:
    """The loss of the trained tokens, weighted and summed, and whether each is the likeliest."""
    with torch.autocast("cpu", torch.bfloat16):
        (trunk, _), *branches = pieces
        hidden = model.hidden(trunk, [tokens for tokens, _ in branches])
        chosen, targets, weights = [], [], []
        # A span's first token is always given, so each trained token is foretold within its own span.
        for h, (tokens, weight) in zip(hidden, pieces, strict=True):
            rows, at = weight[:, 1:].nonzero(as_tuple=True)
            chosen.append(h[rows, at])
            targets.append(tokens[rows, at + 1])
            weights.append(weight[rows, at + 1])
        logits = model.logits(torch.cat(chosen)).float()
    wanted = torch.cat(targets)
    loss = F.cross_entropy(logits, wanted, reduction="none") @ torch.cat(weights)
    return loss, logits.detach().argmax(-1) == wanted


@torch.no_grad()
def measure(model: Seedling, trees: Trees, most: int | None = None) -> dict[str, float]:
    """Share of tokens, and of whole trees, on which greedy decoding agrees with the teacher.

    A lower bound of what the model answers right: where every token agrees, decoding writes the same trace.
    """
    hits = [forward(model, trees.pieces([n], None, None))[1] for n in range(min(most or len(trees), len(trees)))]
    return {
        "tokens": torch.cat(hits).float().mean().item(),
        "whole": sum(bool(hit.all()) for hit in hits) / len(hits),
    }


class Source:
    """Steps' worth of trees from one npz, each tree once an epoch."""

    def __init__(self, trees: Trees, random: np.random.Generator) -> None:
        self.trees, self._random = trees, random
        self._order: Iterator[int] = iter(())

    def batch(self, tokens: int, most_branches: int) -> list[list[int]]:
        """Lists of trees to compute together, about `tokens` tokens in all."""
        batch: list[list[int]] = []
        loose: list[int] = []
        while tokens > 0:
            tree = self._next()
            branches = self.trees.branches(tree)
            if branches > most_branches:
                continue
            if branches:
                batch.append([tree])
            else:
                loose.append(tree)
            tokens -= int(self.trees.lengths[self.trees.first[tree] : self.trees.first[tree + 1]].sum())
        loose.sort(key=lambda tree: self.trees.lengths[self.trees.first[tree]])
        return batch + [loose[i : i + 12] for i in range(0, len(loose), 12)]

    def _next(self) -> int:
        tree = next(self._order, None)
        if tree is None:
            self._order = iter(self._random.permutation(len(self.trees)).tolist())
            tree = next(self._order)
        return tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--init", type=Path, nargs="+", help="start from the mean of these directories' weights")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--drill-share", type=float, default=0.08, help="of the time, drills alone at the start")
    parser.add_argument("--small-share", type=float, default=0.15, help="of the time, small surveys only")
    parser.add_argument("--steps-share", type=float, default=0.25, help="of the steps after the drills, more drills")
    parser.add_argument("--steps-first", type=float, default=0.45, help="the same, until the rate begins to fall")
    parser.add_argument("--sharpen", type=float, default=1.7, help="multiply the later layers' query and key norms")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.7, help="of the time, the rate falls to nothing")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    train(options)


def optimisers(model: Seedling, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, its steps scaled to AdamW's size so that one rate serves both."""
    matrices = [w for name, w in model.named_parameters() if w.dim() == 2 and "embed" not in name]
    others = [w for name, w in model.named_parameters() if w.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def mean(directories: list[Path]) -> Seedling:
    """A model whose weights are the mean of several: of neighbouring stages it was better than either."""
    models = [Seedling.load(directory) for directory in directories]
    weights = [model.state_dict() for model in models]
    models[0].load_state_dict({name: sum(w[name] for w in weights) / len(weights) for name in weights[0]})
    return models[0]


def train(options: argparse.Namespace) -> None:
    random = np.random.default_rng(options.seed)
    if options.init:
        model = mean(options.init)
    else:
        model = Seedling(Shape(num_hidden_layers=options.layers))
        plant(model)
    sharpen(model, options.sharpen)
    names = np.load(options.data / "names.npy")
    files = {"d": "drills", "s": "steps", "t": "traces"}
    sources = {source: Source(Trees(options.data / f"{name}.npz"), random) for source, name in files.items()}
    heldout = {path.stem.partition("-")[2]: Trees(path) for path in sorted(options.data.glob("heldout-*.npz"))}
    optims = optimisers(model, options.rate)
    # What is saved and measured is a running mean of the weights: a single step's are noisy while the rate is high.
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED))
    options.out.mkdir(parents=True, exist_ok=True)
    log = (options.out / "curve.jsonl").open("w")
    start, checked, step, seen = time.monotonic(), 0.0, 0, 0
    recent: dict[str, list[float]] = {source: [] for source in sources}
    while True:
        spent = (time.monotonic() - start) / 60
        done = min(1.0, spent / options.minutes)
        early = done < options.drill_share and not options.init
        steps_share = options.steps_share if 1 - done < options.decay else options.steps_first
        source = "d" if early else "s" if random.random() < steps_share else "t"
        # Warm-up over fifty steps, then level, then straight down.
        shape = min(1.0, (step + 1) / 50, max(0.01, (1 - done) / options.decay))
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = options.rate * shape
        small = done < options.small_share and not options.init
        batch = [
            sources[source].trees.pieces(trees, names, random)
            for trees in sources[source].batch(options.batch_tokens, SMALL + 1 if small else 99)
        ]
        trained = sum(float(weight[:, 1:].sum()) for pieces in batch for _, weight in pieces)
        losses, right, tried = 0.0, 0, 0
        for pieces in batch:
            loss, hits = forward(model, pieces)
            (loss / trained).backward()
            losses, right, tried = losses + loss.item(), right + int(hits.sum()), tried + len(hits)
            seen += sum(tokens.numel() for tokens, _ in pieces)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        averaged.update_parameters(model)
        step += 1
        recent[source].append(right / tried)
        if step % 20 == 0 or done == 1.0:
            entry: dict[str, object] = {
                "step": step,
                "minutes": round(spent, 2),
                "tokens": seen,
                "loss": round(losses / trained, 4),
            }
            entry |= {f"right_{s}": round(sum(r) / len(r), 4) for s, r in recent.items() if r}
            recent = {source: [] for source in sources}
            if done == 1.0 or spent - checked > 3.0:
                checked = spent
                most = None if done == 1.0 else 40 // len(heldout)
                entry["heldout"] = {story: measure(averaged.module, trees, most) for story, trees in heldout.items()}
                save(averaged.module, options)
            log.write(json.dumps(entry) + "\n")
            log.flush()
            print(json.dumps(entry), flush=True)
        if done == 1.0:
            write_stages(options, step, seen)
            return


def write_stages(options: argparse.Namespace, steps: int, tokens: int) -> None:
    """stages.json: how these weights came to be, the stage they started from first."""
    stages = json.loads((options.init[-1] / "stages.json").read_bytes()) if options.init else []
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
