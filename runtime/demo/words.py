"""Words and numbers that belong to one side of the split, for ever.

Owns the rule that decides the side: a hash of the spelling. A word or number of the held-out side appears in
no training survey, so a model that answers held-out surveys copies and looks up; it cannot remember. The
short words of sentences and questions (the, was, of, ...) are grammar and stand on both sides.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from random import Random
from typing import Literal

Split = Literal["train", "heldout"]

_ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh sk st t th tr v w z".split()  # noqa: SIM905 - a list of words reads best as words
_VOWELS = "a e i o u ai ea ou oo".split()  # noqa: SIM905
_CODAS = "l m n nd r rk s sk st t x s ts ns rs es ses ers els ings".split()  # noqa: SIM905
# How often a word is a real one. A demo reads better with many; a model that is trained on many remembers them, and
# then does not copy the held-out ones ("hor" is followed by what followed it in training, not by "ses").
_REAL = {"train": 0.08, "heldout": 0.35}

# What people keep ledgers of, and where: an open set would do, but a demo reads better with real words.
_WORDS = """
wheat barley oats rye maize rice beans lentils peas onions carrots turnips cabbages potatoes apples pears
plums cherries figs grapes olives walnuts almonds hazels chestnuts honey butter cheese cream eggs milk
flour sugar salt pepper saffron ginger cinnamon clover hay straw timber planks bricks tiles slates nails
hinges ropes chains barrels crates sacks baskets jars bottles candles lamps lanterns boots gloves coats
hats blankets carpets curtains cushions tables chairs stools benches ladders wheels carts wagons saddles
bridles ploughs spades rakes shovels hammers chisels anvils kettles pans plates spoons forks knives sheep
goats cattle horses donkeys geese ducks hens turkeys rabbits trout salmon herring eels oysters mussels
wool linen cotton silk leather paper ink parchment books maps letters stamps coins rings beads pearls
copper iron tin lead zinc silver marble granite chalk clay sand gravel peat coal north south east west
upper lower outer inner old new spring summer autumn winter harbour market castle chapel bridge tower mill
farm barn stable orchard garden meadow forest hill valley river lake island coast quay depot station
office cellar attic kitchen workshop foundry brewery bakery dairy vineyard quarry mine ledgers reports
accounts records lists notes archive returns surveys sheets books pages parish county district region
village hamlet town stock stores harvest yields tolls rents fines dues visits repairs orders sales fares
tickets guests pupils nurses painters tailors weavers millers smiths coopers masons shepherds drivers
sailors pilots porters clerks judges
""".split()  # noqa: SIM905


# Words that calls and messages are made of, as names: the hardest to tell from what they are in a call.
CALLED = "lines line tasks results result path read file list sum max min key task copy budget context report".split()  # noqa: SIM905


@functools.cache
def side(item: str | int) -> Split:
    """Which side a word or number stands on: one in five is held out."""
    digest = hashlib.blake2b(str(item).encode(), digest_size=4).digest()
    return "heldout" if int.from_bytes(digest) % 5 == 0 else "train"


@functools.cache
def _words(split: Split) -> tuple[str, ...]:
    return tuple(sorted({word for word in _WORDS if side(word) == split}))


@functools.cache
def _numbers(digits: int, split: Split) -> tuple[int, ...]:
    first = 0 if digits == 1 else 10 ** (digits - 1)
    return tuple(n for n in range(first, 10**digits) if side(n) == split)


def make_word(random: Random, split: Split, most_letters: int = 99) -> str:
    """A real word, or (more often) one made of syllables: names that nobody has seen before."""
    while True:
        word = _make_word(random, split)
        if len(word) <= most_letters:
            return word


def _make_word(random: Random, split: Split) -> str:
    if random.random() < _REAL[split]:
        return random.choice(_words(split))
    while True:
        syllables = random.choice((1, 2, 2, 2, 3))
        word = "".join(random.choice(_ONSETS) + random.choice(_VOWELS) for _ in range(syllables))
        word += random.choice(_CODAS) if random.random() < 0.75 else ""
        if len(word) > 2 and side(word) == split:
            return word


def make_near(random: Random, words: Sequence[str]) -> str:
    """One of `words`, or a word that begins or ends like one: what is easily mistaken. For the training side."""
    word = random.choice(words)
    while True:
        other, cut = make_word(random, "train"), random.randint(1, len(word) - 1)
        near = random.choice((word, word, word[:cut] + other, other + word[cut:]))
        if side(near) == "train":
            return near


def make_number(random: Random, split: Split) -> int:
    """0 to 9999, every length about as likely as the one before but for the shortest."""
    return random.choice(_numbers(random.choices((1, 2, 3, 4), (1, 3, 4, 4))[0], split))
