"""Families on workers: together while their worker lives, spread by load, forgotten with their root."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from agents.context import Origin, Segment
from runtime.engine.placement import Placement


def _root(number: int = 0) -> Segment:
    return Segment(number, None, Origin.GIVEN, [1, 2, 3])


@given(workers=st.integers(1, 5), families=st.integers(1, 30), agents=st.integers(0, 4))
def test_equal_families_are_spread_evenly(workers: int, families: int, agents: int) -> None:
    """Within one of even, whether or not they have begun to work."""
    placement = Placement(workers)
    roots = [_root(number) for number in range(families)]
    for root in roots:
        family = placement.family(root)
        for agent in range(agents):
            placement.use(family, f"{root.id}-{agent}")
    held = [[placement.family(root).worker for root in roots].count(worker) for worker in range(workers)]
    assert max(held) - min(held) <= 1
    assert sum(placement.loads()) == families * max(agents, 1)


STEPS = st.lists(st.tuples(st.sampled_from(["ask", "fork", "use", "release", "die", "live"]), st.integers(0, 9)))


@given(workers=st.integers(1, 4), steps=STEPS)
def test_a_family_is_never_split(workers: int, steps: list[tuple[str, int]]) -> None:
    """It changes its worker only if that one died, and then for one that lives, if any does."""
    placement = Placement(workers)
    heads = [[_root(number)] for number in range(10)]
    homes: dict[int, int] = {}
    for what, number in steps:
        contexts = heads[number]
        if what == "fork":
            contexts.append(Segment(100 + len(contexts), contexts[len(contexts) // 2], Origin.GIVEN, [4]))
        elif what == "die":
            placement.live[number % workers] = False
        elif what == "live":
            placement.live[number % workers] = True
        elif what == "release":
            told = placement.release(f"s{number}")
            assert told <= set(range(workers))
            assert not placement.where(f"s{number}")
        else:
            family = placement.family(contexts[-1])
            if what == "use":
                placement.use(family, f"s{number}")
                assert family.worker in placement.where(f"s{number}")
            assert homes.setdefault(number, family.worker) == family.worker
            assert placement.live[family.worker] or not any(placement.live)
            assert {placement.family(context).worker for context in contexts} == {family.worker}
        # Whose worker is down may move, and from then on belongs elsewhere.
        homes = {n: home for n, home in homes.items() if placement.live[home]}


def test_what_is_over_weighs_nothing_and_is_forgotten() -> None:
    """A family whose agents have ended keeps its place and counts for nothing; without its root it is gone."""
    placement = Placement(2)
    first, second = _root(1), _root(2)
    home = placement.family(first).worker
    placement.use(placement.family(first), "a")
    assert placement.family(second).worker != home
    assert placement.release("a") == {home}
    assert sorted(placement.loads()) == [0, 1]
    assert placement.family(first).worker == home
    third = _root(3)
    assert placement.family(third).worker == home
    del first, second, third
    gc.collect()
    assert placement.loads() == [0, 0]
