"""Exact arithmetic."""

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.host import ToolRefused
from agents.tools.calc import MAX_CHARS, calculate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1+2*3", "7"),
        ("0.1+0.2", "0.3"),
        ("1/3", "1/3"),
        ("-7/8", "-0.875"),
        ("max(3, 4) + (7 > 5)", "5"),
        ("(4>5)+(6>5)+(5>=5)", "2"),
        ("sum([1, 2], 3)", "6"),
        ("2**-2", "0.25"),
        ("round(2.675, 2)", "2.68"),
        ("7 // 2 + 7 % 2", "4"),
    ],
)
def test_values_are_exact(expression: str, value: str) -> None:
    """Integers, decimals and fractions come out as exactly what they are."""
    assert calculate(expression) == value


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=400))
def test_a_long_sum(figures: list[int]) -> None:
    """A sum of hundreds of figures equals Python's."""
    assert calculate("+".join(f"({n})" for n in figures)) == str(sum(figures))


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_what_is_written_is_the_value(p: int, q: int) -> None:
    """Whatever form a result is written in, reading it back gives the same number."""
    assert Fraction(calculate(f"({p})/{q}")) == Fraction(p, q)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "2**100000",
        "1/0",
        "__import__('os').system('true')",
        "a+1",
        "'x'*9",
        "True+1",
        "[1 for x in y]",
        "max()",
        "abs(1, 2)",
        "1e999",
        "(" * 3000 + "1" + ")" * 3000,
        "1+" * (MAX_CHARS // 2) + "1",
        "",
        "1<2<3",
        "*".join(["9999999999"] * 400),
    ],
)
def test_anything_else_is_refused(expression: str) -> None:
    """What is not bounded arithmetic is refused with a message, and never takes long or raises anything else."""
    with pytest.raises(ToolRefused, match=r"^calc: "):
        calculate(expression)


@given(st.text(alphabet="0123456789+-*/%(),.<>= maxinsumcountabsround[]", max_size=60))
def test_no_text_breaks_it(expression: str) -> None:
    """Any text is either calculated or refused."""
    with contextlib.suppress(ToolRefused):
        calculate(expression)


def test_names_of_agents_are_the_first_number_of_their_results() -> None:
    """`a2` stands for the first number in its result, at any place in an expression; anything else is refused."""
    results = {"a2": ["oats: 412 barn-9.txt"], "a3": ["-3.5"], "a4": ["none"]}
    assert calculate("a2+a3", results.get) == "408.5"
    assert calculate("max(a2, a3)", results.get) == "412"
    assert calculate("(a2>400)+(a3>400)", results.get) == "1"
    assert calculate("-a3", results.get) == "3.5"
    for expression in ("a9", "a4+1", "max", "a2(3)"):
        with pytest.raises(ToolRefused, match=r"^calc: "):
            calculate(expression, results.get)


def test_results_stands_for_all_of_them() -> None:
    """Functions take the list; comparing it gives a list of ones and zeros; alone it is no number."""

    def results(name: str) -> list[str] | None:
        return ["oats: 412 barn-9.txt", "7", "-3"] if name == "results" else None

    for expression, value in {
        "sum(results)": "416",
        "max(results)": "412",
        "min(results)": "-3",
        "count(results)": "3",
        "sum(results>6)": "2",
        "sum(results == 7) + 1": "2",
        "max(results, 500)": "500",
    }.items():
        assert calculate(expression, results) == value
    for expression in ("results", "results + 1", "sum(1 < results < 3)"):
        with pytest.raises(ToolRefused, match="calc"):
            calculate(expression, results)
    with pytest.raises(ToolRefused, match="no agent that you started"):
        calculate("sum(results)", lambda _: [])
