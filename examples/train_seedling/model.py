"""The seedling as a torch module: Qwen3's architecture in a page.

Owns the arithmetic and the names of the weights, which are those of a Qwen3 checkpoint, so what is saved here
is served by SGLang and loaded by transformers as it is. Written out because training wants only the logits of
the tokens that are trained, and because transformers cannot be imported in an engine environment without its
stand-ins. Does not decode: engines do. Runs under the engine environment's Python (torch).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The dimensions, under the names that config.json has for them."""

    vocab_size: int = 1024
    hidden_size: int = 256
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    intermediate_size: int = 640
    rope_theta: float = 1000000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 4096


class Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        s, d = shape, shape.head_dim
        self.heads, self.kv_heads, self.head_dim = s.num_attention_heads, s.num_key_value_heads, d
        self.q_proj = nn.Linear(s.hidden_size, self.heads * d, bias=False)
        self.k_proj = nn.Linear(s.hidden_size, self.kv_heads * d, bias=False)
        self.v_proj = nn.Linear(s.hidden_size, self.kv_heads * d, bias=False)
        self.o_proj = nn.Linear(self.heads * d, s.hidden_size, bias=False)
        self.q_norm = Norm(d, s.rms_norm_eps)
        self.k_norm = Norm(d, s.rms_norm_eps)

    def forward(self, xs: list[Tensor], rotary: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """`xs`: the trunk, then groups of branches, each of which sees the trunk and itself."""
        trunk: tuple[Tensor, Tensor] | None = None
        out = []
        for x, turn in zip(xs, rotary, strict=True):
            b, t, _ = x.shape
            q = rotate(self.q_norm(self.q_proj(x).view(b, t, self.heads, -1)).transpose(1, 2), turn)
            k = rotate(self.k_norm(self.k_proj(x).view(b, t, self.kv_heads, -1)).transpose(1, 2), turn)
            v = self.v_proj(x).view(b, t, self.kv_heads, -1).transpose(1, 2)
            out.append(self.o_proj(attend(q, k, v, trunk).transpose(1, 2).reshape(b, t, -1)))
            trunk = trunk or (k, v)
        return out


class Feed(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Feed(shape)

    def forward(self, xs: list[Tensor], rotary: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        seen = self.self_attn([self.input_layernorm(x) for x in xs], rotary)
        xs = [x + y for x, y in zip(xs, seen, strict=True)]
        return [x + self.mlp(self.post_attention_layernorm(x)) for x in xs]


class Trunk(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)


class Seedling(nn.Module):
    """Qwen3ForCausalLM with tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # Residual writers start smaller, so depth does not swell the stream (GPT-2's rule).
                writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = 0.02 / (2 * shape.num_hidden_layers) ** 0.5 if writes else 0.02
                nn.init.normal_(parameter, std=scale)

    def hidden(self, ids: Tensor, branches: Sequence[Tensor] = ()) -> list[Tensor]:
        """The last hidden states of `ids` [B, T], and of each group of `branches` [N, T'] that goes on from them.

        With branches there is one trunk (B = 1): it is computed once, and each branch sees it and itself.
        """
        # The stream as engines have it: half the memory traffic of fp32.
        stream = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        starts = [0, *(ids.shape[1] for _ in branches)]
        xs = [self.model.embed_tokens(group).to(stream) for group in (ids, *branches)]
        rotary = [self._rotary(start, x.shape[1]) for start, x in zip(starts, xs, strict=True)]
        for layer in self.model.layers:
            xs = layer(xs, rotary)
        return [self.model.norm(x) for x in xs]

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.embed_tokens.weight)

    def _rotary(self, start: int, length: int) -> tuple[Tensor, Tensor]:
        d = self.shape.head_dim
        frequency = self.shape.rope_theta ** (-torch.arange(0, d, 2, dtype=torch.float32) / d)
        angle = torch.outer(torch.arange(start, start + length, dtype=torch.float32), frequency)
        angle = torch.cat((angle, angle), -1)
        return angle.cos(), angle.sin()

    def save(self, directory: Path) -> None:
        """Write model.safetensors (bf16) and config.json."""
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: w.detach().to(torch.bfloat16).contiguous() for name, w in self.state_dict().items()}
        save_file(weights, str(directory / "model.safetensors"), metadata={"format": "pt"})

    @classmethod
    def load(cls, directory: Path) -> Seedling:
        """The model of a directory that `save` and `write_config` wrote, in fp32."""
        config = json.loads((directory / "config.json").read_bytes())
        model = cls(Shape(**{name: config[name] for name in asdict(Shape())}))
        weights = load_file(str(directory / "model.safetensors"))
        model.load_state_dict({name: w.float() for name, w in weights.items()})
        return model


def attend(q: Tensor, k: Tensor, v: Tensor, trunk: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Causal attention of q [B, H, T, D] over k and v [B, H', T, D], H' dividing H, all of it after `trunk`.

    `trunk` is keys and values [1, H', T', D] that every row sees whole. Written out: for rows this short torch's fused
    kernel for CPUs takes twice as long, and it would need the trunk copied for each row.
    """
    b, h, t, d = q.shape
    kv = k.shape[1]
    mask = torch.full((t, t), -1e9, dtype=q.dtype).triu(1).repeat(h // kv, 1)
    rows = q.reshape(b * kv, -1, d)
    scores = torch.baddbmm(mask[None], rows, k.reshape(b * kv, t, d).transpose(1, 2), alpha=d**-0.5)
    if trunk is None:
        weights = scores.softmax(-1).to(v.dtype)
        return (weights @ v.reshape(b * kv, t, d)).view(b, h, t, d)
    # [H', B * queries, T']: one product for all rows.
    queries = q.reshape(b, kv, -1, d).transpose(0, 1).reshape(kv, -1, d) * d**-0.5
    before = (queries @ trunk[0][0].transpose(1, 2)).view(kv, b, -1, trunk[0].shape[2]).transpose(0, 1)
    weights = torch.cat((before, scores.view(b, kv, -1, t)), -1).softmax(-1).to(v.dtype)
    before, own = weights.split((trunk[0].shape[2], t), -1)
    seen = before.transpose(0, 1).reshape(kv, -1, before.shape[-1]) @ trunk[1][0]
    seen = seen.view(kv, b, -1, d).transpose(0, 1)
    return (seen + own @ v).reshape(b, h, t, d)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = (r.to(x.dtype) for r in rotary)
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def write_config(directory: Path, shape: Shape, *, eos: int, bos: int) -> None:
    """config.json and generation_config.json, as transformers and SGLang read them."""
    directory.mkdir(parents=True, exist_ok=True)
    config = asdict(shape) | {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }
    generation = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": bos, "do_sample": False}
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
