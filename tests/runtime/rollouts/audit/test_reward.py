"""What an audit does to a rollout: drop it, or take its reward."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.rollouts.audit import Row, drop, inspect, read_transcript, zero
from runtime.rollouts.audit.reward import rewards_of, scored
from runtime.rollouts.schema import Rollout, Term, read_rollouts, write_rollout
from tests.runtime.rollouts.audit.building import rollout
from tests.runtime.rollouts.audit.test_taint import COPIES, forked
from tests.support import tiny_chat

TERMS = (
    Term(name="tests", agent="a1", score=1.0, weight=2.0, shared=True),
    Term(name="format", agent="a2", score=0.5),
    Term(name="format", agent="a3", score=0.25),
    Term(name="step", agent="a2", score=0.125, step=(1, 0)),
    Term(name="judge", agent="a2", score=None, error="it did not answer"),
)


def peeked(*, branch: bool) -> tuple[Rollout, list[Row]]:
    one = rollout(
        forked(prefix=False, branch=branch, joins=False), parents=COPIES | {"a4": ("a1", "fork")}, terms=TERMS
    )
    return one, inspect(read_transcript(one, tiny_chat()))


def test_who_is_rewarded_with_what() -> None:
    """Own terms, and shared ones of those one came from; a term without a score counts for nothing."""
    head = peeked(branch=False)[0].head
    assert rewards_of(head, "a1") == {None: 2.0}
    assert rewards_of(head, "a2") == {None: 2.5, (1, 0): 0.125}
    assert rewards_of(head, "a3") == {None: 2.25}
    assert scored(head) == 1.0


def test_the_tainted_get_nothing_and_the_others_what_they_had(tmp_path: Path) -> None:
    """The outcome and each step of the branch that peeked are brought to zero; it survives a file, and a repetition."""
    one, rows = peeked(branch=True)
    punished = zero(one, rows)
    assert rewards_of(punished.head, "a2") == {None: pytest.approx(0), (1, 0): pytest.approx(0)}
    assert rewards_of(punished.head, "a3") == rewards_of(one.head, "a3")
    assert rewards_of(punished.head, "a1") == rewards_of(one.head, "a1")
    added = punished.head.terms[len(TERMS) :]
    assert {(term.name, term.quote) for term in added} == {("audit", "git_log_all: git log --all")}
    assert zero(punished, rows) == punished
    with (tmp_path / "out").open("wb") as file:
        write_rollout(file, punished)
    assert list(read_rollouts(tmp_path / "out")) == [punished]


def test_a_dropped_rollout_says_why() -> None:
    """With the class and whose hit it was; what it said before is kept."""
    one, rows = peeked(branch=True)
    assert drop(one, rows).head.dropped == "audit: git_log_all by a2"
    assert drop(drop(one, rows), rows).head.dropped.startswith("audit: git_log_all by a2; ")


def test_the_clean_are_left_as_they_are() -> None:
    """Without rows, or with rows of another rollout, nothing changes."""
    one, rows = peeked(branch=False)
    assert rows == []
    other = peeked(branch=True)[1]
    foreign = [Row(class_=row.class_, severity=row.severity, rollout="elsewhere", taints=row.taints) for row in other]
    assert drop(one, foreign) is one
    assert zero(one, foreign) is one
