"""Exact arithmetic: integers and fractions of any size, never a rounded float.

Owns the grammar of expressions. The name of an agent that one started stands for the first number in its result, so
figures need not pass through a model's hands to be added up (docs/adr/0009).

Invariant: the work is bounded before it is done (`MAX_CHARS`, `MAX_BITS`), so no expression, however hostile, takes
noticeable time or memory.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import partial
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from agents.host import Agent, Host, Reply, ToolRefused
from agents.tools.base import Tool

__all__ = ["Calc", "calculate"]

MAX_CHARS = 20_000  # about 5,000 summands of three digits
MAX_BITS = 10_000  # about 3,000 decimal digits: printed in well under a millisecond

RESULTS = "results"  # the name that stands for all of them
RESULTS_SUM = f"sum({RESULTS})"
_EXTREME = re.compile(rf"(max|min)\(\s*{RESULTS}\s*\)")

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": lambda *v: min(v),
    "max": lambda *v: max(v),
    "sum": lambda *v: sum(v, Fraction(0)),
    "count": lambda *v: Fraction(len(v)),
    "abs": lambda v: abs(v),
    "round": lambda v, n=Fraction(0): Fraction(round(v, _places(n))),
}


class Calc(Tool, frozen=True, kw_only=True):
    """Calculate exactly: + - * / // % **, comparisons (1 or 0), min, max, sum, count, abs, round. The name of an agent
    you started (a2) stands for the first number in its result, `results` for the list of all of them: sum(results),
    sum(results > 10). max(results) and min(results) also tell whose it is."""

    name: ClassVar[str] = "calc"
    repeatable: ClassVar[bool] = True
    expression: Annotated[str, Meta(description="such as max(3, 4) + (7 > 5)")]

    async def run(self, agent: Agent, host: Host) -> Reply:
        value = calculate(self.expression, lambda name: host.results_of(agent, name))
        return Reply(text=value, note="\n".join(self._whose(value, host.lines_of(agent))))

    def _whose(self, value: str, lines: Sequence[str]) -> list[str]:
        """Of a maximum or minimum of all results, the lines of those that have it."""
        if not _EXTREME.fullmatch(self.expression.strip()):
            return []
        figures = [calculate(RESULTS_SUM, partial(_only, line.partition(": ")[2])) for line in lines]
        return [line for line, figure in zip(lines, figures, strict=True) if figure == value]


def _only(text: str, _: str) -> list[str]:
    return [text]


def calculate(expression: str, results_of: Callable[[str], list[str] | None] = lambda _: None) -> str:
    """The exact value: an integer, a finite decimal, or a fraction `p/q`. Raises ToolRefused.

    `results_of` gives the texts that a name stands for: the first number in each counts. Several are a list, which
    functions take, and whose comparisons are lists of ones and zeros.
    """
    if len(expression) > MAX_CHARS:
        raise ToolRefused(f"calc: the expression has {len(expression)} characters, at most {MAX_CHARS} are allowed")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _written(_value(_Numbered(results_of).visit(tree.body)))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ToolRefused(f"calc: not an expression: {error.args[0] if error.args else error}") from error
    except ZeroDivisionError as error:
        raise ToolRefused("calc: division by zero") from error
    except TypeError as error:
        raise ToolRefused("calc: wrong number of arguments") from error


class _Numbered(ast.NodeTransformer):
    """Puts the numbers for the names, but for the functions that are called."""

    def __init__(self, results_of: Callable[[str], list[str] | None]) -> None:
        self._results_of = results_of

    def visit_Call(self, node: ast.Call) -> ast.Call:
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        node = ast.Compare(self.visit(node.left), node.ops, [self.visit(side) for side in node.comparators])
        if not isinstance(node.left, ast.List):
            return node
        each: list[ast.expr] = [ast.Compare(number, node.ops, node.comparators) for number in node.left.elts]
        return ast.List(each, ast.Load())

    def visit_Name(self, node: ast.Name) -> ast.expr:
        texts = self._results_of(node.id)
        if not texts:
            raise ToolRefused(f"calc: {node.id!r} is no agent that you started and that has finished")
        numbers = [self._number(node.id, text) for text in texts]
        return ast.List(numbers, ast.Load()) if node.id == RESULTS else numbers[0]

    @staticmethod
    def _number(name: str, text: str) -> ast.expr:
        found = _NUMBER.search(text)
        if found is None:
            raise ToolRefused(f"calc: there is no number in the result of {name}: {text[:80]!r}")
        return ast.parse(found.group(), mode="eval").body


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=bool()):
            raise ToolRefused("calc: only numbers are calculated with")
        case ast.Constant(value=int(number)):
            return _bounded(Fraction(number))
        case ast.Constant(value=float(number)):
            try:
                return Fraction(Decimal(repr(number)))
            except (InvalidOperation, ValueError, OverflowError) as error:
                raise ToolRefused("calc: not a finite number") from error
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp() if _is_chain(node):
            return _chain(node)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return Fraction(int(_COMPARE[type(op)](_value(left), _value(right)))) if type(op) in _COMPARE else _no(node)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            values = [_value(v) for a in arguments for v in (a.elts if isinstance(a, ast.List | ast.Tuple) else [a])]
            if not values:
                raise ToolRefused(f"calc: {name} of nothing")
            return _bounded(Fraction(_FUNCTIONS[name](*values)))
        case _:
            return _no(node)


def _is_chain(node: ast.BinOp) -> bool:
    return type(node.op) in _BINARY


def _chain(node: ast.BinOp) -> Fraction:
    # A sum of a thousand figures parses into a tree a thousand deep on its left: walk that spine in a loop.
    spine: list[tuple[ast.operator, ast.expr]] = []
    at: ast.expr = node
    while isinstance(at, ast.BinOp) and _is_chain(at):
        spine.append((at.op, at.right))
        at = at.left
    value = _value(at)
    for op, right in reversed(spine):
        value = _bounded(Fraction(_BINARY[type(op)](value, _value(right))))
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise ToolRefused("calc: only whole exponents are exact")
    bits = max(abs(base.numerator).bit_length(), base.denominator.bit_length())
    if bits * abs(exponent.numerator) > MAX_BITS:
        raise ToolRefused("calc: the result is too large")
    return Fraction(base**exponent)


def _places(places: Fraction) -> int:
    # Rounding raises ten to this power. More places than a number can have here change nothing, and fewer leave 0.
    return max(-MAX_BITS, min(MAX_BITS, int(places)))


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise ToolRefused("calc: the result is too large")
    return value


def _written(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > 30:
        return f"{value.numerator}/{value.denominator}"
    scaled = abs(value.numerator) * 10**places // value.denominator
    digits = str(scaled).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _no(node: ast.expr) -> Fraction:
    raise ToolRefused(f"calc: {ast.unparse(node)[:60]!r} is not arithmetic")
