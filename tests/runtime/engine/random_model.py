"""Writes a Qwen3-architecture model with random weights, small enough to be served on a laptop's CPU.

Owns the directory it is given and nothing else. The tokenizer is the one of `tests.support`. Needs no torch: a
safetensors file is a JSON header and raw numbers. The weights come from a seed, so two runs make the same model byte
for byte. It says nothing sensible; it exercises a real server's cache, batching and grammar as a large model would.
"""

from __future__ import annotations

import json
import shutil
import struct
from array import array
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from tests.support import SPECIAL, tiny_model

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INNER, CONTEXT = 64, 2, 4, 2, 16, 128, 16384


def write_random_model(directory: Path, seed: int = 0) -> Path:
    """Write config, tokenizer and weights into `directory` (made if missing) and return it."""
    shutil.copytree(tiny_model(), directory, dirs_exist_ok=True)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    vocabulary = tokenizer.get_vocab_size()
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
        },
    )
    _write_json(
        directory / "config.json",
        {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "head_dim": HEAD_DIM,
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "initializer_range": 0.02,
            "intermediate_size": INNER,
            "max_position_embeddings": CONTEXT,
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": KV_HEADS,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "vocab_size": vocabulary,
        },
    )
    _write_weights(directory / "model.safetensors", vocabulary, Random(seed))
    return directory


def _write_weights(path: Path, vocabulary: int, random: Random) -> None:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, HIDDEN)}
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        shapes |= {
            f"{at}.input_layernorm.weight": (HIDDEN,),
            f"{at}.post_attention_layernorm.weight": (HIDDEN,),
            f"{at}.self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"{at}.self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{at}.self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{at}.self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"{at}.self_attn.q_norm.weight": (HEAD_DIM,),
            f"{at}.self_attn.k_norm.weight": (HEAD_DIM,),
            f"{at}.mlp.gate_proj.weight": (INNER, HIDDEN),
            f"{at}.mlp.up_proj.weight": (INNER, HIDDEN),
            f"{at}.mlp.down_proj.weight": (HIDDEN, INNER),
        }
    shapes["model.norm.weight"] = (HIDDEN,)

    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, shape in shapes.items():
        count = shape[0] if len(shape) == 1 else shape[0] * shape[1]
        # Norms are the identity; matrices keep the scale of what passes through them, so logits are spread out.
        scale = HIDDEN**-0.5
        values = [1.0] * count if len(shape) == 1 else [random.gauss(0.0, scale) for _ in range(count)]
        start = len(body)
        body += array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, len(body)]}
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
