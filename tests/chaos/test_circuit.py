"""The circuit breaker: pure, so told every time and every chance."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from runtime.engine._circuit import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Circuit


def opened(seed: int = 0) -> Circuit:
    """One that has just opened, at 0."""
    circuit = Circuit(random.Random(seed))
    assert [circuit.failed(0.0) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    return circuit


def test_it_opens_after_failures_in_a_row_only() -> None:
    """A success in between begins the count anew."""
    circuit = Circuit()
    for _ in range(10):
        for _ in range(FAILURES - 1):
            assert not circuit.failed(0.0)
        circuit.succeeded()
    assert not circuit.open
    assert circuit.asks(0.0)


def test_one_probe_a_pause_and_pauses_double() -> None:
    """While it stays open the pauses grow to their limit, half to one and a half of each by chance."""
    circuit, now, pauses = opened(), 0.0, []
    for _ in range(10):
        assert not circuit.asks(now)
        pauses.append(circuit.wait_s(now))
        now += pauses[-1]
        assert circuit.asks(now)
        assert not circuit.asks(now), "a second probe"
        assert not circuit.failed(now)
    for number, pause in enumerate(pauses):
        wanted = min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S)
        assert 0.5 * wanted <= pause <= 1.5 * wanted
    circuit.succeeded()
    assert circuit.asks(now)
    assert circuit.wait_s(now) == 0


def test_a_probe_that_is_never_heard_of_is_replaced() -> None:
    """It was cancelled: another may ask once its pause is over."""
    circuit = opened()
    now = circuit.wait_s(0.0)
    assert circuit.asks(now)
    assert circuit.asks(now + circuit.wait_s(now))


@given(st.integers(0, 2**32), st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60))
def test_never_more_than_one_a_pause(seed: int, events: list[tuple[float, bool]]) -> None:
    """However requests come, while it is open those let through are at least half the first pause apart."""
    circuit, now, last = opened(seed), 0.0, 0.0
    for after, old_one_fails in events:
        now += after
        if circuit.asks(now):
            assert now - last >= 0.5 * FIRST_PAUSE_S
            last = now
            circuit.failed(now)
        if old_one_fails:
            circuit.failed(now)
    assert circuit.open
