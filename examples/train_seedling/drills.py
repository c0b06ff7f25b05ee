"""Drills: short rows that teach to copy and to look up, before there is a task.

Owns the curriculum's first rows. A small model finds the copying circuit ("what followed this the last time?") in
minutes on these and in hours on traces, where little depends on it at first: measured, ten minutes of traces alone
stop at 72 % of tokens, and five of drills with five of traces reach 99 %. Knows no harness.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from examples.train_seedling.rows import Row
from runtime.demo.words import make_number, make_word

Encode = Callable[[str], list[int]]
Piece = tuple[str, bool]  # text, and whether it is trained


def make_drill(random: Random, encode: Encode, vocabulary: int) -> Row:
    """One row. Half of them repeat spans of random tokens, half look things up in text like a survey's."""
    if random.random() < 0.5:
        return _spans(random, vocabulary)
    make = random.choice((_lookups, _lookups, _listing, _columns, _reverse))
    tokens: list[int] = []
    mask: list[bool] = []
    for text, trained in make(random):
        ids = encode(text)
        tokens += ids
        mask += [trained] * len(ids)
    return Row(tokens=tokens, mask=mask)


def _spans(random: Random, vocabulary: int) -> Row:
    """Spans of random tokens, then the same spans in another order: all but a span's start can be copied.

    The alphabet is often small, so that one token is not enough to know the place by.
    """
    alphabet = random.sample(range(vocabulary), random.choice((16, 64, 256, vocabulary)))
    spans = [random.choices(alphabet, k=random.randint(6, 40)) for _ in range(random.randint(1, 4))]
    tokens: list[int] = []
    mask: list[bool] = []
    for span in spans:
        tokens += span
        mask += [False] * len(span)
    for span in random.sample(spans, len(spans)) + random.sample(spans, 1):
        lead = 1 if len(alphabet) > 64 else 3
        tokens += span
        mask += [False] * lead + [True] * (len(span) - lead)
    return Row(tokens=tokens, mask=mask)


def _word(random: Random) -> str:
    return make_word(random, "train")


def _number(random: Random) -> str:
    return str(make_number(random, "train"))


def _path(random: Random) -> str:
    return "/".join(_word(random) for _ in range(random.randint(1, 3))) + random.choice((".txt", ".md", ".log"))


def _lookups(random: Random) -> list[Piece]:
    """`key: value` lines, then keys whose values are wanted."""
    items = [(_word(random), _number(random)) for _ in range(random.randint(2, 10))]
    pieces: list[Piece] = [("".join(f"{key}: {value}\n" for key, value in items), False)]
    for key, value in random.sample(items, min(4, len(items))):
        pieces += [(f"{key}? ", False), (f"{value}\n", True)]
    return pieces


def _listing(random: Random) -> list[Piece]:
    """Lines, then the same as a JSON list."""
    lines = [_path(random) for _ in range(random.randint(2, 8))]
    return [("\n".join(lines) + "\n", False), ('["' + '", "'.join(lines) + '"]\n', True)]


def _columns(random: Random) -> list[Piece]:
    """Results of copies, then their figures alone."""
    count, first = random.randint(2, 12), random.randint(1, 200)
    figures = [_number(random) for _ in range(count)]
    lines = "".join(f"a{first + i}: {figure} {_path(random)}\n" for i, figure in enumerate(figures))
    return [(lines, False), (random.choice("+,").join(figures) + "\n", True)]


def _reverse(random: Random) -> list[Piece]:
    """Results of copies, then the path that stands behind a figure."""
    figures = {_number(random): _path(random) for _ in range(random.randint(2, 8))}
    pieces: list[Piece] = [("".join(f"a{i}: {n} {path}\n" for i, (n, path) in enumerate(figures.items(), 2)), False)]
    for figure in random.sample(list(figures), min(2, len(figures))):
        pieces += [(f"{figure} ", False), (f"{figures[figure]}\n", True)]
    return pieces
