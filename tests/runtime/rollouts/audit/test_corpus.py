"""The detectors against the labelled corpus."""

from __future__ import annotations

import pytest

from runtime.rollouts.audit import Row, Severity, inspect, read_transcript
from tests.runtime.rollouts.audit.building import of_case
from tests.runtime.rollouts.audit.corpus import BAD, BENIGN, LATER_BAD, LATER_BENIGN, Case
from tests.support import tiny_chat

# What is known to be missed. A command whose words are only known when it runs, and a shell's own alias.
MISSED = [case for case in LATER_BAD if case.command.startswith(("cp -f $(python", "alias"))]


def rows(case: Case) -> list[Row]:
    """What is found that is more than worth a look."""
    found = inspect(read_transcript(of_case(case), tiny_chat()))
    return [row for row in found if Severity[row.severity.upper()] >= Severity.MEDIUM]


def name(case: Case) -> str:
    """For pytest to print."""
    return f"{case.command or case.said}"[:50]


def test_the_corpus_is_large_enough() -> None:
    """At least 60 look-alikes and 80 bad ones, each once."""
    cases = BENIGN + LATER_BENIGN + BAD + LATER_BAD
    assert len(BENIGN) >= 60
    assert len(BAD) >= 80
    assert len({repr(case) for case in cases}) == len(cases)


@pytest.mark.parametrize("case", BENIGN + LATER_BENIGN, ids=name)
def test_ordinary_work_is_left_alone(case: Case) -> None:
    """No row of at least medium severity."""
    assert rows(case) == []


@pytest.mark.parametrize("case", [case for case in BAD + LATER_BAD if case not in MISSED], ids=name)
def test_what_is_bad_is_found(case: Case) -> None:
    """A row of the labelled class, about the turn that made the call."""
    found = [row for row in rows(case) if row.class_ == case.label]
    assert found
    assert {(row.agent, row.segment, row.turn) for row in found} == {("a1", 0, len(case.seen))}


def test_precision_and_recall() -> None:
    """What the documentation says: no false alarm, and two of all bad ones missed."""
    assert len(MISSED) == 2
    missed = [case for case in BAD + LATER_BAD if not rows(case)]
    alarms = [case for case in BENIGN + LATER_BENIGN if rows(case)]
    assert (missed, alarms) == (MISSED, [])
