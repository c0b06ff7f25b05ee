"""Bytes as the input of a target, and the inputs that the generators make as bytes.

What a target reads as text or bytes is mutated as that. Any other value stands for the choices of its generator, as
hypothesis reads them from a buffer: whatever the bytes, the value is one that it could have made.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import HOLE, TARGETS, Target

__all__ = ["dictionary", "made", "taking"]

WORD = 64  # bytes
CHOICES = 1_024  # bytes: more than any value of ours takes


def _target(name: str) -> Target:
    return HOLE if name == "hole" else TARGETS[name][0]


def taking(name: str) -> Callable[[bytes], object]:
    """What tries one input, and raises what the target does."""
    target = _target(name)
    if target.read_as is bytes:
        return target.run
    if target.read_as is str:
        return lambda data: target.run(data.decode(errors="replace"))
    return _chosen(target.inputs, target.run)


def made(name: str, count: int, *, seed: int) -> list[bytes]:
    """So many inputs of the target's generator, or a few less: without those that are the same as another."""
    target = _target(name)
    found: dict[bytes, None] = {}
    if target.read_as is None:
        chances, read = random.Random(seed), _chosen(target.inputs, lambda _: None)
        for _ in range(count):
            if (read_bytes := read(chances.randbytes(CHOICES))) is not None:
                found[read_bytes] = None
        return list(found)
    _each(
        target.inputs,
        count,
        seed,
        lambda value: found.setdefault(value if isinstance(value, bytes) else value.encode(errors="replace")),
    )
    return list(found)


def dictionary(name: str) -> str:
    """The target's pieces as libFuzzer reads them; it takes none longer than a word of its own, and no empty file."""
    pieces = [piece.encode(errors="replace") if isinstance(piece, str) else piece for piece in _target(name).pieces]
    words = [piece.hex(" ").replace(" ", r"\x") for piece in pieces if len(piece) <= WORD]
    return "# pieces\n" + "".join(rf'"\x{word}"' + "\n" for word in words)


def _chosen(inputs: Any, run: Callable[[Any], object]) -> Callable[[bytes], bytes | None]:
    def try_one(value: object) -> None:
        run(value)

    quiet = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    read: Callable[[bytes], bytes | None] = quiet(given(inputs)(try_one)).hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    return read


def _each(inputs: Any, count: int, number: int, keep: Callable[[Any], object]) -> None:
    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def keep_all(value: object) -> None:
        keep(value)

    keep_all()
