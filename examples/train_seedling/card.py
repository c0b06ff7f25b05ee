"""The model card: what the seedling is, from the files that its training and its exam left. Owns its wording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_CARD = """\
# The seedling

A language model of {parameters:.1f} M parameters (Qwen3 architecture, {layers} layers, width {width}, {vocabulary}
tokens) that drives a swarm of agents through stories about files. *Survey*: it lists a directory, forks one copy of
itself for each file, reads a figure in each copy, calculates, and answers. *Onboarding*: it spawns newcomers that ask
it for the key, answers them as a fork of itself, and calculates from what they find. *Detour*: it follows a trail of
long files to the key, rewinds with it, and then surveys. *Review*: it reads the figure of one file, and checks as a
reviewer what it said as an author. Every action is its own, decoded greedily and unconstrained.

**It knows only these**, in the form and wordings of `runtime/demo/`: 2 to 12 files of about a hundred tokens, figures
of one to four digits. Ask it anything else and what it says means nothing. It is here so that the runtime has a real
model on any machine, for demos and tests; for work, use a larger one.

## Figures

Exam: stories whose names, keys, noise words and figures appear in no training story, through the real harness and a
real SGLang server (`examples/train_seedling/evaluate.py`, seeds from 4,000,000).

| | right |
|---|---|
{figures}

Surveys by kind: {kinds}. By number of files: {files}.

## Training

Data: scripted teachers' traces, token-identical to the harness's (a test compares them), one tree for each group of
contexts that begin alike, and drills in copying and looking up; in eight of ten trees (seven in the first eleven
stages) the tokens that only names are made of are exchanged for one another. Training stories have seeds from
1,000,000, drills from 2,000,000, the held-out check from 3,000,000; torch's and numpy's seed is {seed} but where a
stage says another. Two CPU cores, bf16 autocast, Muon and AdamW. An induction circuit is planted in the first
two layers before training (`plant.py`).

Stages were stopped by hand, and most began with data of a changed format: what a fork and a calculation look like, how
directories are named, which drills there are. `examples/train_seedling/README.md` tells why; the tokenizer is that of
the first stage.

{stages}

Command: {commands}

## Files

`model.safetensors` (bf16), `config.json`, `generation_config.json`, `tokenizer.json`, `tokenizer_config.json`,
`ramet.json` (its prompts are terse: no tool schemas). License: Apache-2.0, as the rest of the project.
"""


def write_card(directory: Path) -> None:
    """Write README.md from config.json, exam.json, stages.json and curve.jsonl in `directory`."""
    config = json.loads((directory / "config.json").read_bytes())
    exam = json.loads((directory / "exam.json").read_bytes())
    stages = json.loads((directory / "stages.json").read_bytes())
    surveys = exam["survey"]
    card = _CARD.format(
        parameters=(directory / "model.safetensors").stat().st_size / 2e6,
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        vocabulary=config["vocab_size"],
        figures="\n".join(_figure(story, tally) for story, tally in exam.items()),
        kinds=", ".join(f"{kind} {share}" for kind, share in surveys["by_kind"].items()),
        files=", ".join(f"{files}: {share}" for files, share in surveys["by_files"].items()),
        seed=stages[0]["seed"],
        stages="\n".join(_stage(stage) for stage in stages),
        commands=" then ".join(f"`{stage['command']}`" for stage in stages),
    )
    (directory / "README.md").write_text(card)


def _figure(story: str, tally: dict[str, Any]) -> str:
    return f"| {story} | **{tally['right']:.1%}** of {tally['stories']} ({tally['turns']} turns) |"


def _stage(stage: dict[str, Any]) -> str:
    seed = f", seed {stage['seed']}" if stage["seed"] else ""
    lines = [
        f"Stage of {stage['minutes']:g} minutes{seed}, {stage['steps']} steps, {stage['tokens'] / 1e6:.1f} M tokens:",
        "",
        "| minutes | tokens seen | trained tokens right | held out: tokens right, trees whole |",
        "|---|---|---|---|",
    ]
    for point in stage["curve"]:
        held, trained = point["heldout"], point.get("right_t", point.get("right_d"))
        told = "; ".join(f"{story} {m['tokens']:.2%}, {m['whole']:.0%}" for story, m in held.items())
        lines.append(f"| {point['minutes']:.0f} | {point['tokens'] / 1e6:.1f} M | {trained:.2%} | {told} |")
    return "\n".join([*lines, ""])
