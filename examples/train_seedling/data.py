"""All rows of a training: `python -m examples.train_seedling.data OUT` writes the tokenizer and the npz files.

Owns the amounts and the seeds. Each survey has a seed of its own, so the n-th survey does not depend on how many
are made. Training rows take few copies (a copy's row repeats the prefix, untrained); held-out rows take every copy,
because there each action counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from agents.prompts import prompt
from examples.train_seedling.drills import make_drill, make_step
from examples.train_seedling.rows import Row, rows_of, save_rows
from examples.train_seedling.synth import Numbering, play
from examples.train_seedling.tokenizer import SPECIAL, STRUCTURAL, VOCABULARY, train_tokenizer
from runtime.demo import make_survey

TRAIN_SEED, DRILL_SEED, HELDOUT_SEED = 1_000_000, 2_000_000, 3_000_000
STEPS = 500_000  # where the later drills' seeds begin


def encoder(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def trace_rows(tokenizer: Tokenizer, count: int, *, heldout: bool, offset: int = 0) -> Iterator[Row]:
    """Rows of `count` surveys played by the teacher."""
    system = prompt("terse")
    for n in range(offset, offset + count):
        random = Random((HELDOUT_SEED if heldout else TRAIN_SEED) + n)
        survey = make_survey(random, split="heldout" if heldout else "train")
        numbering = Numbering() if heldout else Numbering.draw(random)
        parent, *copies = play(survey, system, lambda text: tokenizer.encode(text).ids, numbering)
        if not heldout:
            # A copy's row is mostly its prefix, which teaches nothing: take more of them where that is short.
            share = 2 if len(copies) <= 4 else int(random.random() < 0.35)
            copies = random.sample(copies, share)
        yield from rows_of([parent, *copies], group=n)


def drill_rows(tokenizer: Tokenizer, count: int) -> Iterator[Row]:
    plain = VOCABULARY - len(SPECIAL) - len(STRUCTURAL)
    for n in range(count):
        yield make_drill(Random(DRILL_SEED + n), lambda text: tokenizer.encode(text).ids, plain)


def step_rows(tokenizer: Tokenizer, count: int) -> Iterator[Row]:
    """Drills for later."""
    plain = VOCABULARY - len(SPECIAL) - len(STRUCTURAL)
    for n in range(count):
        yield make_step(Random(DRILL_SEED + STEPS + n), lambda text: tokenizer.encode(text).ids, plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--surveys", type=int, default=12000)
    parser.add_argument("--drills", type=int, default=40000)
    parser.add_argument("--heldout", type=int, default=200)
    options = parser.parse_args()
    tokenizer = encoder(train_tokenizer(options.out))
    save_rows(options.out / "heldout.npz", trace_rows(tokenizer, options.heldout, heldout=True))
    save_rows(options.out / "drills.npz", drill_rows(tokenizer, options.drills))
    save_rows(options.out / "steps.npz", step_rows(tokenizer, options.drills))
    save_rows(options.out / "traces.npz", trace_rows(tokenizer, options.surveys, heldout=False))


if __name__ == "__main__":
    main()
