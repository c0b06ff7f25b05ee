"""Credit, worked by hand: what agents earned, and what each estimator makes of it."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.rollouts.credit import (
    ESTIMATORS,
    REPLAYS,
    REPLAYS_DECISION,
    attempt,
    decision,
    independent,
    rao,
    replaying,
    rewards,
    role_of,
    rows,
    segment,
    spec_loo,
    tree,
)
from runtime.rollouts.schema import Rollout
from tests.runtime.rollouts.trees import Growing

random = st.integers(0, 2**32).map(Random)  # many draws a tree: through hypothesis they would take minutes


def forked(first: float = 1.0, second: float = 0.0, **head: str) -> Rollout:
    """One attempt: edge 0 is shared, the root goes on in edge 2, its copy a1 in edge 1."""
    growing = Growing("forked")
    growing.fork("a0")
    growing.earn("a0", first)
    growing.earn("a1", second)
    return growing.done(**head)


def single(name: str, score: float, **head: object) -> Rollout:
    """An attempt that never forks."""
    growing = Growing(name)
    growing.earn("a0", score)
    return growing.done(**head)


def near(values: dict[int, float]) -> object:
    """Equal but for rounding."""
    return pytest.approx(values, abs=1e-12)


# -- rewards ------------------------------------------------------------------------------------------------


def test_a_reward_is_ones_own_terms_and_the_shared_ones_above() -> None:
    """Of a parent's terms a child gets the shared; nobody gets a child's."""
    growing = Growing("r")
    growing.fork("a0", 2)
    growing.fork("a1")
    growing.earn("a0", 1.0, weight=2.0, shared=True)
    growing.earn("a0", 0.5)
    growing.earn("a1", 0.25, shared=True)
    growing.earn("a3", -1.0)
    growing.earn("a3", 9.0, step=(0, 0))
    assert rewards(growing.done().head) == {"a0": 2.5, "a1": 2.25, "a2": 2.0, "a3": 1.25}


def test_an_unknown_reward_is_not_a_zero() -> None:
    """An own term without a score takes its agent out, a shared one all below as well; NaN and infinity are none."""
    growing = Growing("r")
    growing.fork("a0", 4)
    growing.fork("a2")
    for agent in growing.members:
        growing.earn(agent, 1.0)
    growing.earn("a4", math.inf)
    growing.earn("a1", None, error="the judge timed out")
    growing.earn("a2", math.nan, shared=True)
    found = attempt(growing.done())
    assert found.rewards == {"a0": 1.0, "a3": 1.0}
    assert [stake.weight for stake in found.stakes] == [0.5, 0.5]


def test_a_helper_earns_what_its_work_was_for() -> None:
    """A host fork gets the reward of the newcomer it answered, a reviewer its author's, unless a term is about it."""
    growing = Growing("r")
    newcomer = growing.spawn("a0")
    host, reviewer, other = growing.host(newcomer), growing.new("a0", "review", None), growing.new("a0", "review", None)
    growing.earn("a0", 0.5)
    growing.earn(newcomer, 2.0)
    growing.earn(other, 0.75)
    earned = rewards(growing.done().head)
    assert (earned[host], earned[reviewer], earned[other]) == (2.0, 0.5, 0.75)


def test_what_takes_no_part_is_still_counted() -> None:
    """Dropped, failed and unscored rollouts have a credit that says why, and change nothing for the others."""
    unscored = Growing("unscored")
    unscored.earn("a0", None)
    odd = [forked(9.0, 9.0, dropped="leaked"), forked(9.0, 9.0, error="engine gone"), unscored.done()]
    plain = [forked(), single("s", 0.0)]
    for estimate in ESTIMATORS.values():
        credits = estimate([*odd, *plain])
        assert [credit.out for credit in credits] == [
            "dropped: leaked",
            "error: engine gone",
            "no agent that is trained has a known reward",
            "",
            "",
        ]
        assert not any(credit.shares or credit.edges or credit.spans for credit in credits[:3])
        assert credits[3:] == estimate(plain)


def test_a_root_weighs_one_however_it_forked_and_an_agent_however_it_rewound() -> None:
    """Leaves weigh one over their number; those of one agent share its part."""
    growing = Growing("r")
    growing.fork("a0", 2)
    growing.rewind("a1")
    growing.rewind("a1")
    for agent in growing.members:
        growing.earn(agent, 1.0)
    stakes = attempt(growing.done()).stakes
    assert sorted((stake.agent.id, round(stake.weight * 9)) for stake in stakes) == [
        ("a0", 3),
        ("a1", 1),
        ("a1", 1),
        ("a1", 1),
        ("a2", 3),
    ]


def test_one_group_at_a_time() -> None:
    """Attempts at different tasks have no common baseline."""
    other = Growing("x", group="h").done()
    with pytest.raises(ValueError, match="'g' and 'h'"):
        segment([forked(), other])


# -- estimators by hand -------------------------------------------------------------------------------------


def test_segment_by_hand() -> None:
    """Roots came to 1/2 and 0, b = 1/4: leaves 1/2 (1 - 1/4) and 1/2 (0 - 1/4), and their sum above."""
    first, second = segment([forked(), single("s", 0.0)])
    assert first.edges == near({0: 0.25, 1: -0.125, 2: 0.375})
    assert second.edges == near({0: -0.25})


def test_segment_with_the_deviation_by_hand() -> None:
    """The population's variance is the mean over roots of 1/2 (9/16 + 1/16) and 1/16, that is 3/16."""
    first, _ = segment([forked(), single("s", 0.0)], std=True)
    assert first.edges == near({0: 0.25 / math.sqrt(3 / 16), 1: -0.125 / math.sqrt(3 / 16), 2: 0.375 / 0.1875**0.5})


def test_a_deviation_of_rounding_is_none() -> None:
    """A group that differs only in the last bit is not blown up to one that differs."""
    first, second = segment([single("r0", 0.1 + 0.2), single("r1", 0.3)], std=True)
    assert (first.edges, second.edges) == ({0: 0.0}, {0: 0.0})


def test_segment_by_role_by_hand() -> None:
    """Roots are compared with roots (1 and 0, b = 1/2); the only fork with nobody."""
    first, second = segment([forked(), single("s", 0.0)], by=role_of)
    assert first.edges == near({0: 0.25, 1: 0.0, 2: 0.25})
    assert second.edges == near({0: -0.5})


def test_independent_by_hand() -> None:
    """The same shares, and a row for each leaf's path."""
    group = [forked(), single("s", 0.0)]
    credit = independent(group)[0]
    made = list(rows(group[0], credit))
    assert [(row.edge, row.advantage) for row in made] == [(2, 0.375), (1, -0.125)]
    assert [sum(row.mask) for row in made] == [
        sum(group[0].edges[0].sampled) + sum(group[0].edges[edge].sampled) for edge in (2, 1)
    ]


def test_tree_by_hand() -> None:
    """Within the tree 1 - 1/2 and 0 - 1/2, within the group 1 - 1/4 and 0 - 1/4."""
    first, second = tree([forked(), single("s", 0.0)])
    assert first.edges == near({0: 0.25, 1: -0.375, 2: 0.625})
    assert second.edges == near({0: -0.25})


def test_tree_against_the_parent_by_hand() -> None:
    """V is 1/2 at the fork, 1 and 0 after it, and 1/4 for the group."""
    first, second = tree([forked(), single("s", 0.0)], against_parent=True)
    assert first.edges == near({0: 0.25, 1: -0.25, 2: 0.25})
    assert second.edges == near({0: -0.25})


def test_rao_by_hand() -> None:
    """The worked example of RL.md: .8 + .4 * .75 against .4, .7 and 1.0; and depths of 4 and 2 agents weigh alike."""
    growing = Growing("first")
    growing.earn("a0", 0.8)
    growing.earn(growing.spawn("a0"), 1.0)
    growing.earn(growing.spawn("a0"), 0.5)
    group = [growing.done(), *(single(str(score), score) for score in (0.4, 0.7, 1.0))]
    first, *others = rao(group, bonus=0.4)
    assert [share.advantage for share in first.shares] == pytest.approx([0.4, 0.3, -0.2])
    assert [share.weight for share in first.shares] == pytest.approx([0.5, 1.0, 1.0])
    assert others[0].shares[0].advantage == pytest.approx(0.4 - (1.1 + 0.7 + 1.0) / 3)


def test_a_helper_is_nobodys_child_in_rao() -> None:
    """A reviewer that no term is about is not somebody that work was delegated to."""
    growing = Growing("r")
    growing.new("a0", "review", None)
    growing.earn("a0", 1.0)
    assert rao([growing.done(), single("s", 0.0)], bonus=0.4)[0].shares[0].advantage == 1.0


def briefed(name: str, brief: str, scores: tuple[float, ...]) -> Rollout:
    """A root that earns nothing itself, and its newcomers."""
    growing = Growing(name)
    growing.earn("a0", 0.0)
    for score in scores:
        growing.earn(growing.spawn("a0", spec=brief, task="sums"), score)
    return growing.done()


def test_spec_loo_by_hand() -> None:
    """Briefs worth .9 and .2: the children differ from that by .1, and who briefed two of them gets twice .7."""
    first, second = spec_loo([briefed("r0", "good", (1.0, 0.8)), briefed("r1", "bad", (0.3, 0.1))])
    b = (0.6 + 0.4 / 3) / 2
    assert [share.advantage for share in first.shares] == pytest.approx([2 * 0.7 - b, 0.1, -0.1])
    assert [share.advantage for share in second.shares] == pytest.approx([2 * -0.7 - b, 0.1, -0.1])


def test_a_bad_brief_cancels_from_the_childs_advantage() -> None:
    """However much it lowers all of them; whoever gave it pays."""
    good = briefed("r0", "good", (1.0, 0.8))
    mild, harsh = (spec_loo([good, briefed("r1", "bad", (0.5 - d, 0.3 - d))])[1].shares for d in (0.0, 3.0))
    assert [share.advantage for share in mild[1:]] == pytest.approx([share.advantage for share in harsh[1:]])
    assert mild[0].advantage > harsh[0].advantage + 3.0


def test_hosts_and_copies_belong_to_the_brief() -> None:
    """A host fork gets the brief's credit; copies of a newcomer are the brief's children as well."""
    growing = Growing("r")
    newcomer = growing.spawn("a0", spec="brief")
    host = growing.host(newcomer)
    (copy,) = growing.fork(newcomer)
    for agent, score in (("a0", 0.0), (newcomer, 1.0), (copy, 0.5)):
        growing.earn(agent, score)
    (credit,) = spec_loo([growing.done()])
    got = {share.agent: share.advantage for share in credit.shares}
    b = (0.0 + 1.0 + 0.5 + 1.0) / 4
    assert got == pytest.approx({"a0": -b + 2 * (0.75 - b), newcomer: 0.25, copy: -0.25, host: 0.75 - b})


def test_the_call_to_spawn_gets_the_briefs_credit_where_it_is_recorded() -> None:
    """Its tokens alone, for all newcomers of the call together; the rest of the giver is as in `segment`."""
    growing = Growing("r")
    growing.earn("a0", 0.0)
    for score in (1.0, 0.8):
        growing.earn(growing.spawn("a0", called=True), score)
    group = [growing.done(), single("s", 0.0)]
    credit, _ = spec_loo(group)
    b = (1.8 / 3 + 0.0) / 2
    assert [share.advantage for share in credit.shares] == pytest.approx([-b, 0.1, -0.1])
    turn = growing.edges[0].turns[-1]
    assert [(span.edge, span.start, span.end) for span in credit.spans] == [(0, turn.start, turn.end)]
    assert credit.spans[0].coefficient == pytest.approx(2 / 3 * (0.9 - b))


def test_a_call_to_spawn_of_who_takes_no_part_gets_nothing() -> None:
    """The giver is not trained, though a copy of it is; or what it earned is not known."""
    frozen = Growing("r", trainable=False)
    for score in (1.0, 0.8):
        frozen.earn(frozen.spawn("a0", called=True), score)
    (copy,) = frozen.fork("a0", trainable=True)
    frozen.earn(copy, 0.0)
    unknown = Growing("r")
    unknown.earn("a0", None)
    for score in (1.0, 0.8):
        unknown.earn(unknown.spawn("a0", called=True), score)
    for growing in (frozen, unknown):
        credit, _ = spec_loo([growing.done(), single("s", 0.0)])
        assert sorted(share.advantage for share in credit.shares if share.agent in ("a1", "a2")) == pytest.approx(
            [-0.1, 0.1]
        )
        assert credit.spans == ()


def test_a_host_of_a_brief_without_children_that_take_part_gets_nothing() -> None:
    """Nothing says what the brief was worth."""
    growing = Growing("r")
    growing.earn("a0", 0.5)
    newcomer = growing.spawn("a0", spec="brief")
    host = growing.host(newcomer)
    growing.earn(newcomer, None)
    growing.earn(host, 1.0)
    (credit, _) = spec_loo([growing.done(), single("s", 0.0)])
    assert {share.agent: share.advantage for share in credit.shares}[host] == 0.0


@given(random)
def test_without_alternatives_spec_loo_hands_credit_on_and_makes_none(rng: Random) -> None:
    """Over one attempt the sum is that of `segment`: what the children lose, whoever briefed them gets."""
    growing = Growing("r", rng=rng)
    for _ in range(rng.randint(1, 4)):
        told = {"spec": rng.choice("xy"), "task": str(len(growing.members))}
        growing.spawn(rng.choice(list(growing.members)), called=rng.random() < 0.5, **told)
    for agent in list(growing.members):
        growing.earn(agent, rng.random())
    credits = [estimate([growing.done(), single("s", 0.2)])[0] for estimate in (segment, spec_loo)]
    before, after = (
        math.fsum(
            [share.weight * share.advantage for share in credit.shares] + [span.coefficient for span in credit.spans]
        )
        for credit in credits
    )
    assert after == pytest.approx(before)


def replays(*scores: float) -> list[Rollout]:
    """Continuations of `forked` in which the fork at the end of edge 0 was refused."""
    info = replaying("forked", 0, forked().edges[0].turns[-1].start)
    return [single(f"replay{number}", score, info=info) for number, score in enumerate(scores)]


def test_decision_by_hand() -> None:
    """Branches came to 1/2, replays to .3, a fork costs .1: the decision gets .1, and nothing else anything."""
    group = [forked(), single("s", 0.0), *replays(0.2, 0.4)]
    credit, *others = decision(group, cost=0.1)
    assert set(credit.edges.values()) == {0.0}
    (span,) = credit.spans
    turn = group[0].edges[0].turns[-1]
    assert (span.edge, span.start, span.end) == (0, turn.start, turn.end)
    assert span.coefficient == pytest.approx(0.1)
    assert not any(other.spans for other in others)
    assert [other.out for other in others] == ["", "replays forked", "replays forked"]


def test_decision_takes_the_place_of_the_edges_own_coefficient() -> None:
    """Over another estimator, the decision's tokens get the decision's credit alone; replays change no baseline."""
    group = [forked(), single("s", 0.0), *replays(0.2, 0.4)]
    base = segment(group)
    assert base[:2] == segment(group[:2])
    made = list(rows(group[0], decision(group, base=base)[0]))
    decided = group[0].edges[0].turns[-1]
    assert [(row.edge, pytest.approx(row.advantage)) for row in made] == [(0, 0.2), (1, -0.125), (2, 0.375)]
    assert sum(made[0].mask) == decided.end - decided.start


def test_a_replay_that_names_no_edge() -> None:
    """Is an error that names the rollout and the field."""
    for info in ({REPLAYS: "forked"}, {REPLAYS: "forked", REPLAYS_DECISION: "7"}):
        with pytest.raises(ValueError, match=r"'odd': info\.replays_decision"):
            decision([single("odd", 1.0, info=info)])


def test_a_decision_post_hoc_counts_the_branches_that_it_made_elsewhere() -> None:
    """Edge 2 decided a fork at the end of edge 0: its own leaf (1) and the copy's (0), not the first fork's."""
    growing = Growing("r")
    growing.fork("a0")
    copy = growing.fork_post_hoc("a0")
    for agent, score in (("a0", 1.0), ("a1", 9.0), (copy, 0.0)):
        growing.earn(agent, score)
    decided = growing.edges[2].turns[-1]
    replay = single("replay", 0.2, info=replaying("r", 2, decided.start))
    (span,) = decision([growing.done(), replay])[0].spans
    assert (span.edge, span.start, span.end) == (2, decided.start, decided.end)
    assert span.coefficient == pytest.approx((1 / 3 + 1 / 3) * (0.5 - 0.2))
    parts = rows(growing.done(), decision([growing.done(), replay])[0])
    assert [(row.edge, row.advantage) for row in parts if row.advantage] == [(2, pytest.approx(0.2))]


def test_a_frozen_agents_decision_gets_nothing() -> None:
    """Nor does one that nobody replayed."""
    growing = Growing("r", trainable=False)
    growing.fork("a0", 2)
    for agent in growing.members:
        growing.earn(agent, 1.0)
    start = growing.edges[0].turns[-1].start
    for asked in (start, start - 1):
        replay = single("replay", 0.2, info=replaying("r", 0, asked))
        assert decision([growing.done(), replay])[0].spans == ()


def test_a_step_is_judged_among_the_groups_turns() -> None:
    """One turn of four was penalised by 1: the mean over roots is -1/4; only that turn loses, the others gain a bit."""
    group: list[Rollout] = []
    for name in ("r0", "r1"):
        growing = Growing(name)
        growing.edges.clear()
        growing.edge(None, "a0", "root", turns=2)
        growing.earn("a0", 0.0)
        if name == "r0":
            growing.earn("a0", -1.0, step=(0, 1))
        group.append(growing.done())
    first, second = segment(group)
    assert [span.coefficient for span in first.spans] == [0.25, -0.75]
    assert [span.coefficient for span in second.spans] == [0.25, 0.25]
    made = list(rows(group[0], first))
    assert [row.advantage for row in made] == [0.25, -0.75]
    assert made[0].tokens == list(group[0].edges[0].tokens[: group[0].edges[0].turns[0].end])
    assert [row.advantage for row in rows(group[1], second)] == [0.25]


def test_a_step_weighs_as_the_leaves_below_it() -> None:
    """Of three turns one has a term, on a branch with half the root's weight below: 1/2 (1 - 1/3), else m (0 - 1/3)."""
    growing = Growing("r")
    growing.fork("a0")
    for agent in growing.members:
        growing.earn(agent, 1.0)
    growing.earn("a1", 1.0, step=(1, 0))
    (credit,) = segment([growing.done()])
    got = {span.edge: span.coefficient for span in credit.spans}
    assert got == pytest.approx({0: -1 / 3, 1: 1 / 3, 2: -1 / 6})


def test_turns_of_frozen_agents_and_unknown_steps_are_no_part_of_that() -> None:
    """Of three turns one is of the frozen agent above, one could not be judged: the third is alone, and gets 0."""
    growing = Growing("r", trainable=False)
    growing.fork("a0", 2)
    growing.earn("a1", 1.0)
    growing.earn("a2", 1.0)
    for edge, score in ((0, 5.0), (1, None), (2, 0.5)):
        growing.earn("a0", score, step=(edge, 0))
    assert segment([growing.done()])[0].spans == ()


def test_frozen_agents() -> None:
    """Get 0, no row, and no say in a baseline; a trained copy of a frozen agent trains its own tokens alone."""
    growing = Growing("r", trainable=False)
    growing.fork("a0", role="scout")
    growing.fork("a0", trainable=False, role="scout")
    for agent, score in (("a0", 7.0), ("a1", 1.0), ("a2", 5.0)):
        growing.earn(agent, score)
    group = [growing.done(), single("s", 0.0)]
    first, _ = segment(group, by=role_of)
    assert set(first.edges.values()) == {0.0}  # alone in its role
    first, second = segment(group)
    assert first.edges == near({0: 0.0, 1: 0.5})
    assert second.edges == near({0: -0.5})
    for estimate in (segment, independent):
        (row,) = rows(group[0], estimate(group)[0])
        assert (row.agent, row.advantage, row.tokens) == ("a1", 0.5, group[0].context(1))
        assert sum(row.mask) == sum(group[0].edges[1].sampled)
        assert row.prompt >= len(group[0].edges[0].tokens)
