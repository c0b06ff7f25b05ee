"""The seedling's tokenizer: byte-level BPE of 1,024 tokens with the structural tokens of Qwen3.

Owns the vocabulary. Invariants: a digit is always one token; a run of letters is cut the same way wherever it
stands (spaces, newlines and punctuation never join it), so that copying a name is copying its tokens; decoding an
encoding gives the text back. Trained on training surveys only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from agents.told import review_text, revise_text
from runtime.demo import GO_ON, KEY_IS, make_survey
from runtime.demo.surveys import NEWCOMERS, SENTENCES, TRAIL, WORDINGS

VOCABULARY = 1024
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
STRUCTURAL = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

# What the harness and the teacher write around a survey's own words.
_FRAMES = (
    "You are an agent. Work with tools; end with finish.",
    "system\n",
    "user\n",
    "assistant\n",
    '\n{"name": "list_files", "arguments": {"path": "a"}}\n',
    '\n{"name": "fork", "arguments": {"tasks": ["{line}"], "lines": true}}\n',
    '\n{"name": "read_file", "arguments": {"path": "a.txt"}}\n',
    '\n{"name": "finish", "arguments": {"result": "a: 4 a.txt"}}\n',
    '\n{"name": "calc", "arguments": {"expression": "sum(results>1)"}}\n',
    '\n{"name": "calc", "arguments": {"expression": "max(results)"}}\n',
    '\n{"name": "calc", "arguments": {"expression": "min(results)"}}\n',
    "You are copy 3 of 8. Your task: a.txt\n",
    "[a3 t2 | context 5120/4096 | budget 100%]",
    '\n{"name": "spawn", "arguments": {"tasks": ["{line}"], "lines": true, "brief": "Find a figure."}}\n',
    '\n{"name": "ask", "arguments": {"questions": ["Which key?"]}}\n',
    '\n{"name": "begin", "arguments": {"understanding": "a"}}\n',
    '\n{"name": "rewind", "arguments": {"to": "t0", "report": "The key is a."}}\n',
    '\n{"name": "verdict", "arguments": {"verdict": "accept"}}\n',
    '\n{"name": "verdict", "arguments": {"verdict": "revise", "comments": "figure of a: 4"}}\n',
    "You are new. Ask what you must know, then begin.\nYour tasks, one for each copy of you:\n",
    "Started by a1, of whom you can read: .ramet/4/task.md, .ramet/4/agents/a1/prompt.md, history.md\n",
    "You are a copy that answers a2, who is to do: a.txt\nIt asks:\nFinish with answers.\n",
    "(interview: .ramet/4/agents/a2/interview.md)\n",
    "You are back at t0, by rewinding. What came after is out of your context. Your report:\n",
    review_text(".ramet/4/task.md", "4", "4"),
    revise_text("a2", "4"),
    "error: 4",
    *(text.format(path="a.txt", key="a") for text in (NEWCOMERS, TRAIL, GO_ON, KEY_IS)),
)


def name_tokens(tokenizer: Tokenizer) -> list[int]:
    """The tokens that only names are made of: letters, and in no frame, wording or sentence."""
    fixed = [*_FRAMES, *SENTENCES, *(wording for wordings in WORDINGS.values() for wording in wordings)]
    grammar = {
        token
        for text in fixed
        for token in tokenizer.encode(re.sub(r"{[wn]}|{key}|{directory}|{threshold}", "", text)).ids
    }
    return [n for text, n in sorted(tokenizer.get_vocab().items()) if text.isalpha() and n not in grammar]


def train_tokenizer(directory: Path, surveys: int = 4000, seed: int = 1) -> Path:
    """Write tokenizer.json and tokenizer_config.json into `directory`, which is made if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|\n|[^\p{L}\p{N}\n]+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(STRUCTURAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(surveys, seed), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in STRUCTURAL])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 4096,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return directory


def _texts(surveys: int, seed: int) -> Iterator[str]:
    random = Random(seed)
    for _ in range(surveys):
        survey = make_survey(random)
        yield survey.question
        yield "\n".join(survey.files)
        yield from survey.files.values()
        yield from _FRAMES
        yield from WORDINGS[survey.kind]
