"""A first guess for the weights: induction circuits, planted before training begins.

Owns the initialisation of a few heads. The circuit is the one that small models find by themselves after minutes of
drills ("what followed this the last time?"): a head of the first layer looks one token back, and a head of the second
looks for a place whose previous token is the present one, and says what stands there. A second head of each layer does
the same with the dozen tokens before, because in a list of paths one token is not enough to know the place by. All
other weights stay random, and training is free to change everything. Why: on two busy cores finding it took longer
than learning the task, and the moment it is found depends on the seed. Knows no task.
"""

from __future__ import annotations

import torch
from torch import Tensor

from examples.train_seedling.model import Seedling

SHARED = 0.16  # of every embedding, along one direction: what a head can attend by position alone with
FAST = range(5)  # pairs of rotary dimensions that turn fast enough to tell neighbours apart
MEDIUM = range(4, 9)  # pairs that tell a dozen tokens from the rest
SLOW = range(16, 32)  # pairs that hardly turn within a context: content can be compared at any distance


@torch.no_grad()
def plant(model: Seedling) -> None:
    """Write the circuits into the first two layers: query heads 0 and 2, key heads 0 and 1 of each."""
    shape = model.shape
    width, size = shape.hidden_size, shape.head_dim
    if (shape.num_attention_heads, shape.num_key_value_heads, size, width) != (4, 2, 64, 256):
        raise ValueError("planted for 4 query heads and 2 key heads of 64 dimensions, and a width of 256")
    one, other = slice(0, size), slice(size, 2 * size)  # key heads
    third = slice(2 * size, 3 * size)  # the first query head of the second key head
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    same = torch.zeros(width)
    same[0] = 1.0
    model.model.embed_tokens.weight[:, 0] = SHARED
    for layer in model.model.layers:
        # The random rest begins as a whisper, so that the circuits can be heard; it grows within a few steps.
        layer.self_attn.o_proj.weight *= 0.1
        layer.mlp.down_proj.weight *= 0.1
    token, before, around = _frame(3 * size, width).split(size)  # apart, so that none reads another's

    # Layer one: one token back (sharply), and about six tokens back (broadly). Keys and queries do not depend on the
    # token; what is seen there goes into a room of the stream of its own.
    first.q_proj.weight[one] = torch.outer(_phase(model, FAST, 0), same)
    first.k_proj.weight[one] = torch.outer(_phase(model, FAST, 1), same)
    first.q_proj.weight[third] = torch.outer(_phase(model, MEDIUM, 0), same)
    first.k_proj.weight[other] = torch.outer(_phase(model, MEDIUM, 6), same)
    sharp = _dims(FAST, size) + 1.0
    first.q_norm.weight.copy_(sharp)
    first.k_norm.weight.copy_(sharp)
    first.v_proj.weight[one] = first.v_proj.weight[other] = token
    first.o_proj.weight[:, one] = before.T * 0.05
    first.o_proj.weight[:, third] = around.T * 0.05

    # Layer two: the present token against the one before, alone and together with what stands around.
    slow = _dims(SLOW, size)[:, None]
    turn = _frame(size, size)
    second.q_proj.weight[one] = token * slow
    second.k_proj.weight[one] = before * slow
    second.q_proj.weight[third] = (token + turn @ around) * slow
    second.k_proj.weight[other] = (before + turn @ around) * slow
    second.q_norm.weight.fill_(2.0)
    second.k_norm.weight.fill_(2.0)
    second.v_proj.weight[one] = second.v_proj.weight[other] = token
    second.o_proj.weight[:, one] = token.T * 0.3
    second.o_proj.weight[:, third] = token.T * 0.3


@torch.no_grad()
def sharpen(model: Seedling, factor: float) -> None:
    """Multiply the query and key norms of the layers that nothing is planted in.

    With norms of one the largest attention logit is 8 (the root of the head's size): among several hundred tokens no
    head can attend to one alone, and these weights hardly move. Measured: after 8 M tokens they were 0.98 to 1.00.
    """
    for layer in model.model.layers[2:]:
        layer.self_attn.q_norm.weight *= factor
        layer.self_attn.k_norm.weight *= factor


def _dims(pairs: range, size: int) -> Tensor:
    """One for the dimensions of the rotary `pairs`, zero for the others."""
    chosen = torch.zeros(size)
    for pair in pairs:
        chosen[pair] = chosen[pair + size // 2] = 1.0
    return chosen


def _phase(model: Seedling, pairs: range, ahead: int) -> Tensor:
    """A vector that rotary embedding turns into what a vector without `ahead` is at a position that much later."""
    size = model.shape.head_dim
    vector = torch.zeros(size)
    for pair in pairs:
        angle = torch.tensor(ahead * model.shape.rope_theta ** (-2 * pair / size))
        vector[pair], vector[pair + size // 2] = angle.cos(), angle.sin()
    return vector


def _frame(rows: int, width: int) -> Tensor:
    """`rows` orthonormal rows, none of them along the shared direction (the first)."""
    frame = torch.randn(width, rows)
    if rows < width:
        frame[0] = 0.0
    return torch.linalg.qr(frame).Q.T.contiguous()
