"""Gradients of a tiny model in PyTorch, for `test_gradient`; runs in the engine's environment, which has torch.

    python torch_gradients.py FILE

FILE holds JSON lines, one a tree: `{"reference": rows, "segment": rows, "independent": rows}`, where a row is
`{"tokens", "mask", "advantage"}`. Prints one JSON object: for each kind of rows the largest absolute difference of any
parameter's gradient from that of the reference, over all trees, in fp32; and the largest gradient there was.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

VOCABULARY, WIDTH = 12, 16

Rows = list[dict[str, object]]


class Tiny(torch.nn.Module):
    """A recurrent model: every prediction depends on the whole past, so a row with another context would show."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.past = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.out = torch.nn.Linear(WIDTH, VOCABULARY)

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        """Of each token but the first, given all before it."""
        states, _ = self.past(self.embed(tokens[:, :-1]))
        every = torch.log_softmax(self.out(states), dim=-1)
        return every.gather(-1, tokens[:, 1:, None]).squeeze(-1)


def gradients(model: Tiny, rows: Rows) -> torch.Tensor:
    """Of the policy-gradient loss of all rows, a sum over tokens, as one vector."""
    length = max(len(row["tokens"]) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    factors = torch.zeros(len(rows), length)
    for number, row in enumerate(rows):
        tokens[number, : len(row["tokens"])] = torch.tensor(row["tokens"])
        factors[number, : len(row["mask"])] = torch.tensor(row["mask"], dtype=torch.float32) * row["advantage"]
    model.zero_grad()
    loss = -(factors[:, 1:] * model.logprobs(tokens)).sum()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def main() -> None:
    """Compare, print."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Tiny()
    worst = {"segment": 0.0, "independent": 0.0}
    largest, trees = 0.0, 0
    for line in Path(sys.argv[1]).read_text().splitlines():
        tree = json.loads(line)
        expected = gradients(model, tree["reference"])
        largest = max(largest, expected.abs().max().item())
        trees += 1
        for kind in worst:
            found = gradients(model, tree[kind])
            worst[kind] = max(worst[kind], (found - expected).abs().max().item())
    print(json.dumps({"trees": trees, "largest": largest, "torch": torch.__version__, **worst}))


if __name__ == "__main__":
    main()
