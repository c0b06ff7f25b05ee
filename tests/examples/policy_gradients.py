"""Gradients of `examples.train_seedling.policy`, for `test_rl`; runs in the engine's environment, which has torch.

    python -m tests.examples.policy_gradients FILE

FILE holds JSON lines, one a rollout: `{"segment": rows, "independent": rows}`, rows as `runtime.rollouts.credit` makes
them. Prints one JSON object: the largest absolute difference between the gradient of segment rows that share their
beginning and that of each kind of rows computed one by one, the largest entry, and how often something was shared.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from examples.train_seedling.model import Seedling, Shape
from examples.train_seedling.policy import Row, loss_of, pieces


def gradient(model: Seedling, together: list[list[Row]]) -> torch.Tensor:
    """Of the summed loss of rows, those of a list computed as one rollout."""
    model.zero_grad(set_to_none=True)
    for rows in together:
        loss_of(model, rows)[0].backward()
    return torch.cat([torch.zeros(1) if w.grad is None else w.grad.flatten() for w in model.parameters()])


def main() -> None:
    """Compare, print."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape = Shape(vocab_size=12, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    model = Seedling(shape)
    found = {"segment": 0.0, "independent": 0.0, "largest": 0.0, "shared": 0}
    for line in Path(sys.argv[1]).read_text().splitlines():
        kinds: dict[str, list[Row]] = json.loads(line)
        together = gradient(model, [kinds["segment"]])
        for kind, rows in kinds.items():
            alone = gradient(model, [[row] for row in rows])
            found[kind] = max(found[kind], float((alone - together).abs().max()))
        found["largest"] = max(found["largest"], float(together.abs().max()))
        found["shared"] += len(pieces(kinds["segment"])) > 1
    print(json.dumps(found))


if __name__ == "__main__":
    main()
