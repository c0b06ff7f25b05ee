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
from examples.train_seedling.synth import draw_run
from examples.train_seedling.teachers import expression, said_figure, turn
from runtime.demo import KEY_IS, Kind, Question, Survey, leads_to, make_survey
from runtime.demo.stories import make_detour
from runtime.demo.surveys import WORDINGS
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
        random.choice((_reading, _reading, _calculating, _answering, _following, _recalling, _reviewing, _reviewing)),
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


def _call(name: str, **arguments: object) -> str:
    return f"{turn(name, **arguments)}<|im_end|>\n"


def _told(text: str) -> str:
    """A tool's result, and the beginning of the turn that it is for."""
    return f"<|im_start|>user\n<tool_response>\n{text}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"


def _following(random: Random, survey: Survey) -> list[Piece]:
    """A trail: after each file the next one is read, or one goes back with the key; then, where the key stands."""
    detour = make_detour(random, survey, "train")
    pieces: list[Piece] = []
    for text in random.sample(list(detour.trail.values()), min(2, len(detour.trail))):
        lines = text.removesuffix("\n").split("\n")
        ahead, key = leads_to(lines)
        shown = lines[-random.randint(1, len(lines)) :] if random.random() < 0.5 else lines
        if not any(leads_to(shown)):
            shown = lines
        call = _call("read_file", path=ahead) if ahead else _call("rewind", to="t0", report=KEY_IS.format(key=key))
        pieces += [(_told("\n".join([*shown, _status(random)])), False), (call, True)]
    return pieces


def _recalling(random: Random, survey: Survey) -> list[Piece]:
    """The key said in one of the places where it may stand, then files, and after each its figure and path."""
    key = survey.key
    said = random.choice(
        (
            f"You are back at t0, by rewinding. What came after is out of your context. Your report:\n"
            f"{KEY_IS.format(key=key)}\n{_status(random)}<|im_end|>\n",
            f"{_told(key)}{_call('begin', understanding=key)}",
        )
    )
    pieces: list[Piece] = [(said, False)]
    for path in random.sample(list(survey.files), min(3, len(survey.files))):
        pieces.append((f"{_call('read_file', path=path)}{_told(survey.files[path] + _status(random))}", False))
        pieces.append((_call("finish", result=f"{key}: {survey.figures[path]} {path}"), True))
    return pieces


def _reviewing(random: Random, survey: Survey) -> list[Piece]:
    """The end of a review: the figure in the file, what is calculated with it, and the verdict; or an author's end."""
    path = random.choice(list(survey.files))
    key, figure = survey.key, str(survey.figures[path])
    found = said_figure(key, figure)
    file = _told(survey.files[path] + _status(random))
    (asked,) = WORDINGS[Kind.FIGURE]
    question = asked.format(key=key, directory=path)
    if random.random() < 0.3:
        given = f"{question}\n{_status(random)}<|im_end|>\n<|im_start|>assistant\n{_call('read_file', path=path)}{file}"
        return [(given, False), (f"{found}\n{_call('finish', result=figure)}", True)]
    said = figure if random.random() < 0.5 else str(make_number(random, "train"))
    task = (
        f"The task (.ramet/{draw_run(random)}/task.md):\n{question}\nThe result:\n{said}\n{_status(random)}<|im_end|>\n"
    )
    value = str(int(said) - int(figure))
    verdict = _call("verdict", verdict="accept") if value == "0" else _call("verdict", verdict="revise", comments=found)
    return [
        (f"{task}<|im_start|>assistant\n{_call('read_file', path=path)}{file}", False),
        (f"{found}\n{_call('calc', expression=f'{said}-{figure}')}", True),
        (_told(f"{value}\n{_status(random)}"), False),
        (verdict, True),
    ]


def _status(random: Random) -> str:
    return status_line(
        f"a{random.randint(1, 20)}",
        random.randint(1, 5),
        random.randint(200, 1500),
        4096,
        random.randint(30, 100) / 100,
    )


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
        said = f"{value} {path}" if which else value
        call = _call("finish", result=path if which else value)
        pieces += [(_told(f"{value}\n{line}{_status(random)}"), False), (said, not line), (f"\n{call}", True)]
    return pieces
