"""Budgets of subtrees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.budget import Account, Budget


def test_what_a_child_spends_its_parent_has_spent() -> None:
    """A charge counts against every budget above it, so another agent of the subtree cannot spend it again."""
    root = Account(budget=Budget(sampled_tokens=100))
    left, right = Account(root), Account(root)
    assert left.reserve(80) == 80
    assert right.reserve(80) == 20
    left.charge(80, 0)
    left.settle(80)
    right.settle(20)
    assert right.reserve(80) == 20
    assert right.left() == pytest.approx(0.2)


def test_a_child_may_have_less_than_its_parent() -> None:
    """An account's own limit holds beside those above it."""
    root = Account(budget=Budget(sampled_tokens=100))
    child = Account(root, Budget(sampled_tokens=10))
    assert child.reserve(50) == 10


def test_turns_and_computed_tokens_end_a_budget_too() -> None:
    """Any limit that is reached grants nothing more."""
    assert Account(budget=Budget(turns=0)).reserve(1) == 0
    account = Account(budget=Budget(computed_tokens=5))
    account.charge(0, 5)
    assert account.reserve(1) == 0


@given(st.integers(0, 200), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50), st.integers(0, 50)), max_size=40))
def test_never_overspent(limit: int, turns: list[tuple[int, int, int]]) -> None:
    """Whatever agents reserve, spend (at most what was granted) and settle, in any order, nothing is overspent,
    nothing goes below zero, and what is spent is the sum of what was charged."""
    root = Account(budget=Budget(sampled_tokens=limit, turns=None))
    accounts = [root, Account(root), Account(root)]
    accounts.append(Account(accounts[1]))
    flying: list[tuple[Account, int, int]] = []
    charged = 0
    for who, wanted, used in turns:
        granted = accounts[who].reserve(wanted)
        flying.append((accounts[who], granted, min(used, granted)))
        assert root.sampled_tokens + root.reserved <= limit
        if len(flying) > 3:
            account, granted, used = flying.pop(0)
            if granted:
                account.charge(used, 0)
                charged += used
            account.settle(granted)
    for account, granted, _ in flying:
        account.settle(granted)
    assert root.sampled_tokens == charged
    assert all(a.reserved == 0 for a in accounts)
    assert 0 <= root.left() <= 1


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(turns=1), "1 turns (--budget turns)"),
        (Budget(sampled_tokens=7), "7 sampled tokens (--budget sampled_tokens)"),
        (Budget(computed_tokens=5), "5 computed tokens (--budget computed_tokens)"),
    ],
)
def test_the_limit_that_was_reached_is_named(budget: Budget, said: str) -> None:
    """Which limit grants no more, and whose: the run's by its flag, a subtree's by its agent."""
    root = Account(budget=budget)
    child = Account(root, owner="a2")
    assert child.used_up() is None
    child.charge(7, 5)
    assert (child.used_up(), child.reserve(1)) == (f"the budget is used up: {said}", 0)
    own = Account(root, Budget(sampled_tokens=0), owner="a3")
    assert own.used_up() == "the budget is used up: 0 sampled tokens (the sampled_tokens of a3)"


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_nothing_is_granted_exactly_when_a_limit_is_named(sampled: int, computed: int, turns: int, on: bool) -> None:
    """`used_up` is silent if and only if `reserve` grants something."""
    root = Account(budget=Budget(sampled_tokens=2, computed_tokens=2, turns=2))
    child = Account(root, Budget(sampled_tokens=1, turns=None))
    child.charge(sampled, computed, turns=turns)
    named = child.used_up(goes_on=on)
    assert bool(child.reserve(5, goes_on=on)) == (named is None)


def test_how_deep_a_subtree_may_grow() -> None:
    """Generations are counted from the account whose limit it is; the one that stops it is named."""
    run = Account(budget=Budget(depth=3))
    lead = Account(run, depth=0, owner="a1")
    child = Account(lead, Budget(depth=1), depth=1, owner="a2")
    below = Account(child, depth=2, owner="a3")
    assert [each.refusal(1) for each in (lead, child)] == [None, None]
    said = below.refusal(1)
    assert said == "agents may be 1 generations deep, and you are there: do it yourself (the depth of a2)"
    plain = Account(Account(Account(lead, depth=1), depth=2), depth=3)
    assert plain.parent is not None
    assert plain.parent.refusal(1) is None
    assert str(plain.refusal(1)).endswith("(--budget depth)")


def test_how_many_agents_may_live_at_once() -> None:
    """Those that live below an account count against its limit, newcomers with them; who has ended does not."""
    run = Account(budget=Budget(agents=4))
    lead, other = Account(run, Budget(agents=3), owner="a1"), Account(run, owner="a2")
    for account in (lead, other):
        account.lived(1)
    assert lead.refusal(2) is None
    assert other.refusal(3) == "2 agents are alive and at most 4 may be: create fewer, or wait (--budget agents)"
    said = lead.refusal(3)
    assert said == "1 agents are alive and at most 3 may be: create fewer, or wait (the agents of a1)"
    other.lived(-1)
    assert other.refusal(3) is None
