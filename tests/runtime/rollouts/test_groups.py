"""Dead groups: found at every level, and what is proposed for them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.rollouts.credit import attempts
from runtime.rollouts.groups import Dead, ForkPoint, Level, by_group, examine, fork_again, lines
from runtime.rollouts.schema import Rollout
from tests.runtime.rollouts.trees import Growing, grow_group, reordered


def attempt(name: str, *scores: float, **further: float) -> Rollout:
    """A root whose copies earn the scores; `further` are terms without weight."""
    growing = Growing(name, rng=Random(0))
    growing.earn("a0", 0.0)
    for copy, score in zip(growing.fork("a0", len(scores)), scores, strict=True):
        growing.earn(copy, score)
    for term, score in further.items():
        growing.earn("a0", score, name=term, weight=0.0)
    return growing.done()


def test_a_live_group() -> None:
    """Has nothing dead where everything differs, and nothing is proposed."""
    report = examine([attempt("r0", 1.0), attempt("r1", 0.5)])
    assert report.values == (0.25, 0.5)
    assert report.dead == (Dead(level=Level.ROLE, name="root", count=2, reward=0.0),)
    assert report.splitters == ()


def test_every_level() -> None:
    """Attempts that all came to the same, a role that did, and a fork below which all did."""
    report = examine([attempt("r0", 1.0, 1.0), attempt("r1", 1.0, 1.0)])
    assert {(one.level, one.name, one.count) for one in report.dead} == {
        (Level.TASK, "", 2),
        (Level.ROLE, "root", 2),
        (Level.ROLE, "fork", 2),
    }
    growing = Growing("r2")
    growing.fork("a0", 2)
    for agent in growing.members:
        growing.earn(agent, 0.5)
    (fork,) = (one for one in examine([growing.done()]).dead if one.level is Level.FORK)
    assert fork == Dead(level=Level.FORK, name="r2:0", count=3, reward=0.5)


def test_a_path_left_behind_is_no_branch() -> None:
    """A rewind leaves two leaves of one agent, which of course earned the same: that is no dead fork."""
    growing = Growing("r")
    growing.fork("a0")
    growing.rewind("a0")
    growing.earn("a0", 1.0)
    growing.earn("a1", None)
    assert [one.level for one in examine([growing.done()]).dead] == [Level.TASK]


def test_what_takes_no_part_is_reported() -> None:
    """By reason; agents whose reward is not known are counted as well."""
    unknown = Growing("r3")
    unknown.fork("a0")
    unknown.earn("a0", 1.0)
    unknown.earn("a1", None)
    dropped = Growing("r4").done(dropped="leaked")
    report = examine([attempt("r0", 1.0), unknown.done(), dropped, dropped])
    assert (report.attempts, report.out, report.unscored) == (2, {"dropped: leaked": 2}, 1)


def test_a_group_without_any_term_is_not_graded() -> None:
    """Nothing is dead in it; once one attempt has a term, the others earned the sum of nothing."""
    bare = [Growing(f"r{number}").done() for number in range(2)]
    report = examine(bare)
    assert (report.attempts, report.out, report.dead) == (0, {"not graded": 2}, ())
    report = examine([*bare, attempt("r2", 0.0)])
    assert [(one.level, one.count, one.reward) for one in report.dead][:1] == [(Level.TASK, 3, 0.0)]


def test_terms_that_would_split_it() -> None:
    """Those that differ, if they have no weight yet as well, before plain measures."""
    report = examine([attempt("r0", 1.0, cites=0.5, polite=1.0), attempt("r1", 1.0, cites=0.9, polite=1.0)])
    assert [(one.name, one.counted) for one in report.splitters] == [("cites", False)]
    assert report.splitters[0].spread == pytest.approx(0.2)
    report = examine([attempt("r0", 0.0), attempt("r1", 0.0, 0.0)])
    assert [one.name for one in report.splitters] == ["sampled_tokens", "turns", "agents"]


def test_terms_that_make_up_for_each_other() -> None:
    """Both differ and both have weight, and still the group is dead."""
    group = []
    for name, (right, brief) in (("r0", (1.0, 0.0)), ("r1", (0.0, 1.0))):
        growing = Growing(name, rng=Random(0))
        growing.earn("a0", right, name="right")
        growing.earn("a0", brief, name="brief")
        group.append(growing.done())
    assert [(one.name, one.counted) for one in examine(group).splitters] == [("brief", True), ("right", True)]


def test_points_to_fork_again_from() -> None:
    """Where some succeeded and some did not, nearest one half first; where all or none did is no such point."""
    report = examine([attempt("r0", 1.0, 0.0, 0.0), attempt("r1", 1.0, 0.0, 0.0), attempt("r2", 1.0, 1.0, -1.0)])
    assert [(one.rollout, one.success) for one in report.forks] == [("r2", 0.5), ("r0", 0.25), ("r1", 0.25)]
    assert examine([attempt("r0", 0.0), attempt("r1", 0.0)]).forks == ()


@given(st.integers(0, 2**32).map(Random))
def test_what_a_copy_from_a_point_costs(rng: Random) -> None:
    """What the leaves below it have sampled since, on average; counted here leaf by leaf."""
    group = grow_group(rng)
    for point in examine(group).forks:
        (one,) = (one for one in attempts(group) if one.rollout.head.id == point.rollout and one.stakes)
        sampled: list[int] = []
        for stake in one.stakes:
            path = one.rollout.path(stake.edge)
            ids = [edge.id for edge in path]
            if point.edge in ids and not stake.abandoned:
                sampled.append(sum(sum(edge.sampled) for edge in path[ids.index(point.edge) + 1 :]))
        assert point.leaves == len(sampled)
        assert point.tokens == round(sum(sampled) / len(sampled))


def test_a_budget() -> None:
    """Pays for the best points first; what it does not reach is named, not forgotten."""
    points = [
        ForkPoint(rollout="r", edge=edge, agent="a0", success=success, leaves=4, tokens=tokens)
        for edge, success, tokens in ((0, 0.25, 50), (1, 0.5, 100), (2, 0.75, 400))
    ]
    plan, left = fork_again(points, budget_tokens=350, copies=3)
    assert [(one.point.edge, one.copies, one.tokens) for one in plan] == [(1, 3, 300), (0, 1, 50)]
    assert [point.edge for point in left] == [2]


def test_of_two_points_equally_near_one_half() -> None:
    """The one where more leaves say so comes first, though it costs more."""
    cheap, sure = (
        ForkPoint(rollout="r", edge=leaves, agent="a0", success=0.5, leaves=leaves, tokens=10 * leaves)
        for leaves in (2, 8)
    )
    plan, left = fork_again([cheap, sure], budget_tokens=80, copies=1)
    assert ([one.point for one in plan], left) == ([sure], [cheap])


def test_lines_for_people() -> None:
    """Say what is dead and what could be done, or that nothing could."""
    text = "\n".join(lines(examine([attempt("r0", 1.0, 0.0, cites=1.0), attempt("r1", 1.0, 0.0, cites=0.0)])))
    assert "dead task: all 2 attempts earned 0.333" in text
    assert "cites differs (deviation 0.5), and has no weight" in text
    assert "fork again at r0:0 (a0): 33% of 3 leaves" in text
    alone = Growing("r")
    alone.earn("a0", 1.0)
    assert lines(examine([alone.done()]))[-1] == "  nothing recorded could revive it"


def test_groups_in_their_order() -> None:
    """Rollouts of one group come together, however they were mixed."""
    mixed = [Growing(name, group=group).done() for name, group in (("r0", "h"), ("r1", "g"), ("r2", "h"))]
    assert {group: [one.head.id for one in found] for group, found in by_group(mixed).items()} == {
        "h": ["r0", "r2"],
        "g": ["r1"],
    }


@given(st.integers(0, 2**32).map(Random))
def test_nothing_is_dropped_silently_and_order_changes_nothing(rng: Random) -> None:
    """Every rollout is an attempt or is counted with a reason; a report does not depend on completion order."""
    group = grow_group(rng)
    report = examine(group)
    assert report.attempts + sum(report.out.values()) == len(group)
    other, _ = reordered(rng, group)
    again = examine(other)
    assert again.values == report.values
    assert sorted((one.level, one.count, one.reward) for one in again.dead) == sorted(
        (one.level, one.count, one.reward) for one in report.dead
    )
    assert sorted((one.success, one.tokens) for one in again.forks) == sorted(
        (one.success, one.tokens) for one in report.forks
    )
