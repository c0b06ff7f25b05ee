"""Reading a file of rollouts group by group, in the memory of one group.

Credit compares the attempts at a task, and collecting writes attempts as they end, those of many tasks mixed. So a file
is read twice: once for where the blocks lie and whose they are (kept: a few words a rollout), once block by block.
Invariants: groups come in the order of their first block, rollouts within one in the order of the file; whatever is
wrong is told in one line that names file, line and field, and costs only the block it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from runtime.rollouts.schema import VERSION, Edge, Head, Rollout, verify
from workspace import NOT_JSON

__all__ = ["groups"]

Complain = Callable[[str], None]


class _Peek(msgspec.Struct):
    """What the first reading needs of a line; the rest is skipped, but must be JSON."""

    record: str
    id: str | int = ""
    group: str = ""
    edges: int = 0


class _Block(msgspec.Struct, frozen=True):
    offset: int
    line: int
    edges: int


_peek = msgspec.json.Decoder(_Peek)
_head = msgspec.json.Decoder(Head)
_edge = msgspec.json.Decoder(Edge)


def groups(path: Path, complain: Complain) -> Iterator[list[Rollout]]:
    """The groups of a file. What cannot be read is told to `complain` and left out. Raises OSError."""
    with path.open("rb") as file:
        index = _index(file, path, complain)
        for blocks in index.values():
            loaded = (_load(file, path, block, complain) for block in blocks)
            if group := [rollout for rollout in loaded if rollout is not None]:
                yield group


def _index(file: BinaryIO, path: Path, complain: Complain) -> dict[str, list[_Block]]:
    index: dict[str, list[_Block]] = {}
    number = 0
    start: _Block | None = None
    group, seen, offset = "", 0, 0
    lost = False  # after what is none of a rollout: until the next one starts, nothing more is said

    def lose(line: int, problem: str) -> None:
        nonlocal start, lost
        if not lost:
            complain(f"{path}:{line}: {problem}")
        start, lost = None, True

    for number, line in enumerate(file, 1):
        try:
            record = _peek.decode(line)
        except NOT_JSON as error:
            record = _Peek("")
            lose(number, f"not a record of a rollout: {error}")
        if record.record == "rollout":
            if start is not None:
                lose(number, f"record: the rollout that starts at line {start.line} was cut")
            start, group, seen, lost = _Block(offset, number, 0), record.group, 0, False
        elif record.record == "edge" and start is not None:
            seen += 1
        elif record.record == "end" and start is not None:
            if record.edges == seen:
                index.setdefault(group, []).append(_Block(start.offset, start.line, seen))
                start = None
            else:
                lose(number, f"edges: {record.edges} were written, {seen} are there")
        elif record.record:
            lose(number, f"record: {record.record!r} is out of place, a rollout was cut")
        offset += len(line)
    if start is not None:
        lose(number, f"the file ends within the rollout that starts at line {start.line}")
    return index


def _load(file: BinaryIO, path: Path, block: _Block, complain: Complain) -> Rollout | None:
    file.seek(block.offset)
    number = block.line
    try:
        head = _head.decode(file.readline())
        edges = []
        for line in islice(file, block.edges):
            number += 1
            edges.append(_edge.decode(line))
    except NOT_JSON as error:
        complain(f"{path}:{number}: {error}")
        return None
    if head.v != VERSION:
        complain(f"{path}:{block.line}: v: version {head.v}, this ramet reads {VERSION}")
        return None
    rollout = Rollout(head=head, edges=tuple(edges))
    if wrong := verify(rollout):
        complain(f"{path}:{block.line}: rollout {head.id!r}: {wrong[0]}")
        return None
    return rollout
