"""All that a training reads: `python -m examples.train_seedling.data OUT` writes the tokenizer and the npz files.

Owns the amounts and the seeds. Each story has a seed of its own, so the n-th does not depend on how many
are made. `names.npy` lists the tokens that only names are made of: training exchanges them for one another.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from agents.prompts import prompt
from examples.train_seedling.drills import Encode, make_drill, make_step
from examples.train_seedling.rows import Tree, save_trees, tree_of
from examples.train_seedling.synth import Numbering, draw_run, play
from examples.train_seedling.tokenizer import SPECIAL, STRUCTURAL, VOCABULARY, name_tokens, train_tokenizer
from runtime.demo import Story, make_story

TRAIN_SEED, DRILL_SEED, HELDOUT_SEED = 1_000_000, 2_000_000, 3_000_000
Make = Callable[[Random, Encode, int], Tree]
SHARES = (0.4, 0.25, 0.2, 0.15)
STEPS = 500_000  # where the later drills' seeds begin


def encoder(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def traces(tokenizer: Tokenizer, count: int, shares: dict[Story, float], *, heldout: bool) -> Iterator[Tree]:
    """`count` stories played by the teachers, a tree for each group of contexts that begin alike."""
    system = prompt("terse")
    for n in range(count):
        random = Random((HELDOUT_SEED if heldout else TRAIN_SEED) + n)
        (story,) = random.choices(list(shares), list(shares.values()))
        made = make_story(random, story, split="heldout" if heldout else "train")
        numbering = Numbering(run=draw_run(random)) if heldout else Numbering.draw(random)
        for heads in play(made, system, lambda text: tokenizer.encode(text).ids, numbering):
            yield tree_of(heads)


def drills(tokenizer: Tokenizer, count: int, make: Make, offset: int = 0) -> Iterator[Tree]:
    """`count` drills that `make` makes."""
    plain = VOCABULARY - len(SPECIAL) - len(STRUCTURAL)
    for n in range(offset, offset + count):
        yield make(Random(DRILL_SEED + n), lambda text: tokenizer.encode(text).ids, plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stories", type=int, default=20000)
    parser.add_argument("--drills", type=int, default=20000)
    parser.add_argument("--heldout", type=int, default=100, help="of each story")
    parser.add_argument(
        "--shares", type=float, nargs=len(Story), default=SHARES, help=f"of the stories: {', '.join(Story)}"
    )
    parser.add_argument(
        "--tokenizer", type=Path, help="a model directory whose tokenizer to use: to train that model on"
    )
    options = parser.parse_args()
    if options.tokenizer:
        options.out.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (options.out / name).write_bytes((options.tokenizer / name).read_bytes())
    tokenizer = encoder(options.out if options.tokenizer else train_tokenizer(options.out))
    np.save(options.out / "names.npy", np.array(name_tokens(tokenizer), np.int64))
    for story in Story:
        save_trees(options.out / f"heldout-{story}.npz", traces(tokenizer, options.heldout, {story: 1.0}, heldout=True))
    save_trees(options.out / "drills.npz", drills(tokenizer, options.drills, make_drill))
    save_trees(options.out / "steps.npz", drills(tokenizer, options.drills, make_step, STEPS))
    save_trees(
        options.out / "traces.npz",
        traces(tokenizer, options.stories, dict(zip(Story, options.shares, strict=True)), heldout=False),
    )


if __name__ == "__main__":
    main()
