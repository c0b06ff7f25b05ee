"""What several tests need: a tiny chat format, and agents that follow a script."""

from __future__ import annotations

import json
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from agents.chat import Chat
from runtime.engine.scripted import ScriptedEngine, text_policy

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
STRUCTURAL = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


@cache
def tiny_model() -> str:
    """A model directory without weights: a byte-level tokenizer with Qwen3's special tokens, terse prompts."""
    directory = Path(tempfile.mkdtemp(prefix="ramet-tiny-"))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(models.BPE(vocab={byte: n for n, byte in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    inner.add_tokens([AddedToken(token, special=False) for token in STRUCTURAL])
    inner.save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text('{"model_type": "qwen3"}')
    (directory / "ramet.json").write_text('{"terse": true}')
    return str(directory)


@cache
def tiny_chat() -> Chat:
    """Its chat format."""
    return Chat.load(tiny_model())


def call(name: str, **arguments: Any) -> str:
    """A turn that makes one call."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def answer(text: str) -> str:
    """The result of the last call of a context, without the status line."""
    return text.rpartition("<tool_response>\n")[2].rpartition("\n[")[0]


def survey(text: str) -> str:
    """A teacher that adds up `total:` over the files of `ledgers`, as the seedling is taught to: by what it reads."""
    own = text.rpartition("You are copy")[2]
    if "You are copy" in text:
        task = re.match(r" \d+ of \d+\. Your task: (.*)", own)
        assert task is not None
        figure = re.search(r"total: (\d+)", own)
        return call("finish", result=f"{figure[1]} {task[1]}") if figure else call("read_file", path=task[1])
    if figures := re.findall(r"^a\d+: (\d+) ", text, re.MULTILINE):
        answers = re.findall(r"<tool_response>\n(\d+)\n", text)
        return call("finish", result=answers[-1]) if answers else call("calc", expression="+".join(figures))
    files = re.findall(r"^ledgers/\S+$", text, re.MULTILINE)
    return call("fork", tasks=files) if files else call("list_files", path="ledgers")


def scripted(decide: Any, **options: Any) -> ScriptedEngine:
    """A scripted engine that speaks the tiny model's format."""
    return ScriptedEngine(text_policy(tiny_chat(), decide), model=tiny_model(), **options)


def ledgers(directory: Path, figures: list[int]) -> None:
    """Files with one figure each."""
    (directory / "ledgers").mkdir()
    for number, figure in enumerate(figures):
        (directory / "ledgers" / f"l{number}.txt").write_text(f"ledger {number}\ntotal: {figure}\n")
