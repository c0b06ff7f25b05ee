"""A first guess for the weights: one induction circuit, planted before training begins.

Owns the initialisation of a few heads. The circuit is the one that small models find by themselves after minutes of
drills ("what followed this token the last time?"): a head of the first layer that looks one token back, and a head
of the second that looks for a place whose previous token is the present one, and says what stands there. All other
weights stay random, and training is free to change everything. Why: on two busy cores finding it took longer than
learning the task, and the moment it is found depends on the seed. Knows no task.
"""

from __future__ import annotations

import torch
from torch import Tensor

from examples.train_seedling.model import Seedling

SHARED = 0.16  # of every embedding, along one direction: what a head can attend by position alone with
FAST = 5  # pairs of rotary dimensions that turn fast enough to tell neighbours apart
SLOW = 16  # pairs from here on hardly turn within a context: content can be compared at any distance


@torch.no_grad()
def plant(model: Seedling) -> None:
    """Write the circuit into the first two layers, heads 0 of each."""
    shape = model.shape
    width, size = shape.hidden_size, shape.head_dim
    group = shape.num_attention_heads // shape.num_key_value_heads
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    same = torch.zeros(width)
    same[0] = 1.0
    embedding = model.model.embed_tokens.weight
    embedding[:, 0] = SHARED
    for layer in model.model.layers:
        # The random rest begins as a whisper, so that the circuit can be heard; it grows within a few steps.
        layer.self_attn.o_proj.weight *= 0.1
        layer.mlp.down_proj.weight *= 0.1

    # Look back by one: a query and a key that do not depend on the token, out of step by one position.
    query, key = torch.zeros(size), torch.zeros(size)
    for pair in range(FAST):
        angle = torch.tensor(shape.rope_theta ** (-2 * pair / size))
        query[pair] = 1.0
        key[pair], key[pair + size // 2] = angle.cos(), angle.sin()
    first.q_proj.weight[:size] = torch.outer(query, same)
    first.k_proj.weight[:size] = torch.outer(key, same)
    first.q_norm.weight.fill_(2.0)
    first.k_norm.weight.fill_(2.0)
    # What is seen there goes, turned by a random rotation, where the next layer's keys will look for it.
    seen, room, copied = _frame(3 * size, width).split(size)  # apart, so that none reads another's
    first.v_proj.weight[:size] = seen
    first.o_proj.weight[:, :size] = room.T * 0.05

    # Compare by content: only slow pairs, so that distance does not matter.
    slow = torch.zeros(size)
    slow[SLOW : size // 2] = slow[size // 2 + SLOW :] = 1.0
    second.q_proj.weight[:size] = seen * slow[:, None]
    second.k_proj.weight[:size] = room * slow[:, None]
    second.q_norm.weight.fill_(1.5)
    second.k_norm.weight.fill_(1.5)
    # And say what stands there.
    second.v_proj.weight[:size] = copied
    second.o_proj.weight[:, :size] = copied.T * 0.4
    assert group * size <= width


def _frame(rows: int, width: int) -> Tensor:
    """`rows` orthonormal rows, none of them along the shared direction."""
    frame = torch.randn(width, rows)
    frame[0] = 0.0
    return torch.linalg.qr(frame).Q.T.contiguous()
