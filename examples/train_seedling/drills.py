"""Drills: short rows that teach to copy and to look up, before there is a task.

Owns the curriculum's first rows. A small model learns copying ("what followed this the last time?") in minutes on
these and in hours on traces, where little depends on it at first: measured, ten minutes of traces alone stop at 72 %
of tokens, and five of drills with five of traces reach 99 %. The drills in text are a survey's own steps without the
conversation around them, so a row is a fifth as long and twice as much of it is trained. Knows no harness.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from agents.told import status_line
from agents.tools.calc import calculate
from examples.train_seedling.rows import Span, Tree
from examples.train_seedling.teachers import expression
from runtime.demo import Kind, Question, Survey, make_survey
from runtime.demo.words import make_number, make_word

Encode = Callable[[str], list[int]]
Piece = tuple[str, bool]  # text, and whether it is trained


def make_drill(random: Random, encode: Encode, vocabulary: int) -> Tree:
    """One row of the beginning. A third of them repeat spans of random tokens, the others are steps of a survey."""
    if random.random() < 0.3:
        return _spans(random, vocabulary)
    make = random.choice((_lookups, _finding, _finding, _reading, _reading, _calculating))
    return _row(random, encode, make)


def make_step(random: Random, encode: Encode, vocabulary: int) -> Tree:
    """One row for later: steps of which every token can be known, and some random spans, so that copying stays a
    matter of what stands there and not of which words there are."""
    if random.random() < 0.1:
        return _spans(random, vocabulary)
    return _row(
        random,
        encode,
        random.choice((_reading, _reading, _reading, _calculating, _answering, _answering)),
    )


def _row(random: Random, encode: Encode, make: Callable[[Random, Survey], list[Piece]]) -> Tree:
    tokens: list[int] = []
    mask: list[bool] = []
    for text, trained in make(random, make_survey(random)):
        ids = encode(text)
        tokens += ids
        mask += [trained] * len(ids)
    return Tree(trunk=Span(tokens=tokens, mask=mask))


def _spans(random: Random, vocabulary: int) -> Tree:
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
    return Tree(trunk=Span(tokens=tokens, mask=mask))


def _lookups(random: Random, survey: Survey) -> list[Piece]:
    """`key: value` lines, then keys whose values are wanted."""
    items = {make_word(random, "train"): str(make_number(random, "train")) for _ in range(random.randint(2, 10))}
    pieces: list[Piece] = [("".join(f"{key}: {value}\n" for key, value in items.items()), False)]
    for key in random.sample(list(items), min(4, len(items))):
        pieces += [(f"{key}? ", False), (f"{items[key]}\n", True)]
    return pieces


def _finding(random: Random, survey: Survey) -> list[Piece]:
    """The results of copies, then some of their figures, each with its path after it."""
    lines = [f"a{n}: {survey.key}: {figure} {path}\n" for n, (path, figure) in enumerate(survey.figures.items(), 2)]
    unique = [
        (path, figure) for path, figure in survey.figures.items() if list(survey.figures.values()).count(figure) == 1
    ]
    pieces: list[Piece] = [("".join(lines), False)]
    for path, figure in random.sample(unique, min(4, len(unique))):
        pieces += [(f"{figure}\n", False), (f'{figure} {path}\n"{path}"\n', True)]
    return pieces


def _reading(random: Random, survey: Survey) -> list[Piece]:
    """Tasks and files, and after each the key, its figure and the path."""
    pieces: list[Piece] = [(f"{survey.question}\n", False)]
    for path in random.sample(list(survey.files), min(3, len(survey.files))):
        # Often of few digits: 4449 beside 9494 is where figures are miscopied.
        few = random.choices("0123456789", k=random.choice((2, 3, 10)))
        digits = str.maketrans("0123456789", "".join(random.choices(few, k=10)))
        text, figure = survey.files[path].translate(digits), str(survey.figures[path]).translate(digits)
        pieces.append((f"Your task: {path}\n", False))
        pieces += [(f'"{path}"\n', True), (text, False)]
        pieces.append((f'"{survey.key}: {figure} {path}"\n', True))
    return pieces


def _calculating(random: Random, survey: Survey) -> list[Piece]:
    """A question and the results of copies, then what to calculate; where a file is asked for, then its path."""
    first = 2 if random.random() < 0.8 else random.randint(2, 300)
    asked = Question(kind=survey.kind, key=survey.key, directory=survey.directory, threshold=survey.threshold)
    wanted = expression(asked)
    figures = [str(figure) for figure in survey.figures.values()]
    lines = [f"a{n}: {survey.key}: {figure} {path}\n" for n, (path, figure) in enumerate(survey.figures.items(), first)]
    value = calculate(wanted, lambda _: figures)
    extreme = survey.kind not in (Kind.SUM, Kind.COUNT)
    whose = [line for line, figure in zip(lines, figures, strict=True) if extreme and figure == value]
    said = f"{value} {survey.answer}" if survey.answer != value else value
    pieces: list[Piece] = [(f"{survey.question}\n{''.join(lines)}", False), (f'"{wanted}"\n', True)]
    return [*pieces, (f"{value}\n{''.join(whose)}", False), (f'{said}\n"{survey.answer}"\n', True)]


def _answering(random: Random, survey: Survey) -> list[Piece]:
    """What a calculation came to, and the turn that says it and finishes with it; several times, with other figures."""
    pieces: list[Piece] = []
    for path in random.sample(list(survey.files) * 3, 5):
        value = str(make_number(random, "train") * random.choice((1, 1, 1, 7)))
        which = random.random() < 0.25
        line = f"a{random.randint(2, 13)}: {survey.key}: {value} {path}\n" if which or random.random() < 0.5 else ""
        used, left = random.randint(200, 1200), random.randint(30, 100) / 100
        told = f"{value}\n{line}{status_line('a1', 3, used, 4096, left)}"
        given = f"<|im_start|>user\n<tool_response>\n{told}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        said = f"{value} {path}" if which else value
        result = path if which else value
        call = f'<tool_call>\n{{"name": "finish", "arguments": {{"result": "{result}"}}}}\n</tool_call><|im_end|>'
        pieces += [(given, False), (said, not line), (f"\n{call}", True), ("\n", False)]
    return pieces
