"""The native format."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from msgspec import structs

from agents.host import Outcome
from runtime.rollouts.schema import (
    VERSION,
    Edge,
    Head,
    Leaf,
    Member,
    Rollout,
    RolloutCorrupt,
    Term,
    Told,
    Turn,
    Versions,
    read_rollouts,
    verify,
    write_rollout,
)


def small(name: str = "r") -> Rollout:
    """A root that forked one copy."""
    trunk = Edge(
        id=0,
        parent=None,
        agent="a1",
        kind="root",
        tokens=(1, 2, 3, 4),
        sampled=(False, False, True, True),
        logprobs=(None, None, -0.5, -1.25),
        versions=(Versions(start=2, end=4, version="v1"),),
        turns=(Turn(start=2, end=4, finish="stop", prompt=2, cached=1),),
    )
    copy = Edge(
        id=1,
        parent=0,
        agent="a2",
        kind="fork",
        tokens=(5,),
        sampled=(False,),
        logprobs=(None,),
        decision=(2, 4),
        told=(Told(at=0, agent="a1"), Told(at=0, agent="a1", sent=(0, 4))),
    )
    head = Head(
        v=VERSION,
        id=name,
        task="t",
        group="g",
        run="run",
        prompt="do it",
        outcome=Outcome.FINISHED,
        result="ä",
        members=(
            Member(id="a1", parent=None, kind="root", task="do it"),
            Member(id="a2", parent="a1", kind="fork", task="part", depth=1, trainable=False),
        ),
        leaves=(Leaf(edge=0, agent="a1"), Leaf(edge=1, agent="a2")),
        terms=(Term(name="x", agent="a1", score=None, shared=True, error="no"),),
        attempt=3,
    )
    return Rollout(head=head, edges=(trunk, copy))


def written(*rollouts: Rollout) -> bytes:
    file = io.BytesIO()
    for rollout in rollouts:
        write_rollout(file, rollout)
    return file.getvalue()


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """Any number of blocks, one after the other; contexts are those of the paths."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(written(small("one"), small("two")))
    assert list(read_rollouts(path)) == [small("one"), small("two")]
    assert small().context(1) == [1, 2, 3, 4, 5]
    assert verify(small()) == []


def test_a_cut_file_gives_what_was_whole(tmp_path: Path) -> None:
    """Wherever a file is cut, the blocks before the cut are read, and then one line says where it ends."""
    path, whole = tmp_path / "f.jsonl", written(small("one"), small("two"))
    first = len(written(small("one")))
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        read, said = readable(path)
        assert read == (["one"] if cut >= first - 1 else []) + (["two"] if cut == len(whole) - 1 else [])
        if cut in (first - 1, first, len(whole) - 1):  # between two blocks; a last line may want its newline
            assert said == ""
        else:
            assert said.startswith(f"{path}:")
            assert "\n" not in said


def readable(path: Path) -> tuple[list[str], str]:
    """The ids of the rollouts that can be read, and what stops the reading."""
    read: list[str] = []
    try:
        read.extend(rollout.head.id for rollout in read_rollouts(path))
    except RolloutCorrupt as error:
        return read, str(error)
    return read, ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{}\n", "record"),
        (b'{"record": "edge", "id": 0}\n', "parent"),
        (b'{"record": "end", "id": "one", "edges": 2}\n', "out of place"),
        (b"not json\n", "malformed"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    """File, line and field are in the message."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(written(small("one")) + line)
    rollouts = read_rollouts(path)
    assert next(rollouts) == small("one")
    with pytest.raises(RolloutCorrupt, match=said) as raised:
        next(rollouts)
    assert str(raised.value).startswith(f"{path}:5: ")


def test_another_version_is_refused(tmp_path: Path) -> None:
    """A file of a later format is not guessed at."""
    path = tmp_path / "f.jsonl"
    rollout = small()
    path.write_bytes(written(structs.replace(rollout, head=structs.replace(rollout.head, v=VERSION + 1))))
    with pytest.raises(RolloutCorrupt, match="version"):
        list(read_rollouts(path))


def test_what_is_wrong_is_said() -> None:
    """Each broken promise of the format is a line."""
    rollout = small()
    trunk, copy = rollout.edges

    def wrong(*edges: Edge) -> list[str]:
        return verify(Rollout(head=rollout.head, edges=edges))

    assert "does not come before" in wrong(copy, trunk)[0]
    assert "twice" in wrong(trunk, trunk, copy)[0]
    assert "differ in length" in wrong(trunk, structs.replace(copy, sampled=()))[0]
    assert "a given token" in wrong(trunk, structs.replace(copy, logprobs=(-1.0,)))[0]
    assert "no member" in wrong(trunk, structs.replace(copy, agent="a9"))[0]
    assert wrong(trunk) == ["leaf of a2: there is no edge 1"]
    bare = structs.replace(rollout.head, leaves=rollout.head.leaves[:1])
    assert verify(Rollout(head=bare, edges=rollout.edges)) == ["agent a2: has no leaf"]
    assert "lies outside, at 1" in wrong(trunk, structs.replace(copy, told=(Told(at=1, agent="a1"),)))[0]
    assert "a9, who told it" in wrong(trunk, structs.replace(copy, told=(Told(at=0, agent="a9"),)))[0]


@pytest.mark.parametrize("step", [(0, 1), (0, -1), (1, 0), (2, 0)])
def test_a_step_that_is_not_there(step: tuple[int, int]) -> None:
    """A term of a step names an edge, and a turn of it; another one is said by name."""
    rollout = small()

    def of(step: tuple[int, int]) -> Rollout:
        term = Term(name="neat", agent="a1", score=1.0, step=step)
        return structs.replace(rollout, head=structs.replace(rollout.head, terms=(term,)))

    assert verify(of((0, 0))) == []
    assert verify(of(step)) == [f"term neat of a1: there is no turn {step[1]} of an edge {step[0]}"]


def test_a_file_from_before_told_was_kept(tmp_path: Path) -> None:
    """Is read, with nothing told."""
    rollout = small()
    old = structs.replace(rollout, edges=tuple(structs.replace(edge, told=()) for edge in rollout.edges))
    path = tmp_path / "f.jsonl"
    path.write_bytes(written(old))
    assert b"told" not in path.read_bytes()
    assert list(read_rollouts(path)) == [old]
