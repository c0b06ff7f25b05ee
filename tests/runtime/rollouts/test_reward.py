"""Rewards: what terms come of them, and what of those that fail."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.base import EngineUnavailable
from runtime.engine.scripted import ScriptedEngine
from runtime.rollouts.reward import Command, Function, Own, Scores, as_reward, score
from runtime.rollouts.rubric import Criterion, Rubric
from runtime.rollouts.schema import Member, Rollout, Term
from runtime.rollouts.summary import reward_of
from tests.runtime.rollouts.test_schema import small
from tests.support import call, scripted

pytestmark = pytest.mark.anyio


def ungraded() -> Rollout:
    """A root with one copy, and no terms."""
    rollout = small()
    head = msgspec.structs.replace(rollout.head, terms=(), result="The sky is  blue.\nIt was measured.")
    return msgspec.structs.replace(rollout, head=head)


async def terms(*rewards: object, directory: Path = Path()) -> tuple[Term, ...]:
    """What rewards come to."""
    graded = await score([as_reward(one) for one in rewards], ungraded(), directory)  # type: ignore[arg-type]
    return graded.head.terms


async def test_what_a_function_may_come_to() -> None:
    """A number is the root's and shared by all; numbers by name are terms of their own; Terms are taken as they are,
    weighed by the reward's weight. Async functions are awaited."""

    def right(rollout: Rollout, directory: Path) -> Scores:
        return "blue" in rollout.head.result

    async def several(rollout: Rollout, directory: Path) -> Scores:
        return {"a": 1, "b": 0.5}

    own = [Term(name="step", agent="a2", score=1.0, weight=0.5), Term(name="s", agent="a1", score=2.0, step=(0, 0))]
    given = Function("given", lambda rollout, directory: own, weight=4.0)
    assert await terms(right, Function("x", several, weight=2.0), given) == (
        Term(name="right", agent="a1", score=1.0, shared=True),
        Term(name="x.a", agent="a1", score=1.0, weight=2.0, shared=True),
        Term(name="x.b", agent="a1", score=0.5, weight=2.0, shared=True),
        Term(name="step", agent="a2", score=1.0, weight=2.0),
        Term(name="s", agent="a1", score=2.0, weight=4.0, step=(0, 0)),
    )


async def test_a_term_for_each_agent() -> None:
    """An own term is one agent's alone; agents that it is not about have none."""

    def brevity(member: Member, rollout: Rollout) -> float | None:
        return None if member.kind == "root" else 1.0

    assert await terms(Own("brevity", brevity, weight=0.1)) == (
        Term(name="brevity", agent="a2", score=1.0, weight=0.1),
    )


@pytest.mark.parametrize(
    ("reward", "why"),
    [
        (lambda rollout, directory: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda rollout, directory: math.nan, "it came to nan"),
        (lambda rollout, directory: -math.inf, "it came to -inf"),
        (lambda rollout, directory: None, "TypeError"),
        (lambda rollout, directory: "1", "AttributeError"),
        (lambda rollout, directory: [Term(name="x", agent="a7", score=1.0)], "no agent 'a7'"),
        (lambda rollout, directory: [Term(name="x", agent="a1", score=1.0, step=(0, 1))], "no step (0, 1)"),
        (lambda rollout, directory: [Term(name="x", agent="a1", score=1.0, step=(9, 0))], "no step (9, 0)"),
        (lambda rollout, directory: [Term(name="x", agent="a1", score=1.0, weight=math.nan)], "its weight is nan"),
        (lambda rollout, directory: (_ for _ in ()).throw(ValueError("two\nlines")), "two lines"),
    ],
)
async def test_a_reward_that_fails_is_a_term(reward: object, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no score and says why, in one line and one warning; the others are computed, and the root's reward is not
    known. The rollout can be written down."""
    failed, good = await terms(reward, Function("good", lambda rollout, directory: 1.0))
    assert failed.score is None
    assert why in failed.error
    assert "\n" not in failed.error
    assert math.isfinite(failed.weight)
    assert (good.score, good.error) == (1.0, "")
    # Where log lines go is set once for a process, by whichever command ran in it first.
    assert "".join(capsys.readouterr()).count("a reward has no score") == 1
    assert msgspec.json.decode(msgspec.json.encode(failed), type=Term) == failed


async def test_a_reward_that_is_not_known() -> None:
    """A root is worth the weighted sum of its outcome's terms, and nothing is known where one of them has no score."""
    good = Function("good", lambda rollout, directory: 0.5, weight=2.0)
    assert reward_of(await score([good], ungraded(), Path())) == 1.0
    bad = Function("bad", lambda rollout, directory: math.nan)
    assert reward_of(await score([good, bad], ungraded(), Path())) is None
    assert reward_of(ungraded()) == 0.0  # a sum of nothing; whether it was graded, only its group can tell


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (Command("c", "test -f there"), 1.0),
        (Command("c", "test -f missing"), 0.0),
        (Command("c", "echo working; echo 0.25", printed=True), 0.25),
        (Command("c", "echo much", printed=True), "printed no number last: 'much'"),
        (Command("c", "true", printed=True), "printed no number last: ''"),
        (Command("c", "sleep 60", timeout_s=0.5), "did not end in 0.5 s"),
    ],
)
async def test_a_command(tmp_path: Path, reward: Command, expected: object) -> None:
    """It runs in the sandbox in the attempt's directory: its exit code counts, or the last number that it prints."""
    (tmp_path / "there").write_text("")
    (term,) = await terms(reward, directory=tmp_path)
    if isinstance(expected, float):
        assert (term.score, term.shared) == (expected, True)
    else:
        assert term.score is None
        assert str(expected) in term.error


CRITERIA = (
    Criterion(name="colour", text="It names a colour.", weight=3.0),
    Criterion(name="proof", text="It says how that is known."),
)


def grading(*grades: dict[str, object]) -> ScriptedEngine:
    """A model that gives these grades, whatever it reads."""
    return scripted(lambda text: call("grade", grades=list(grades)))


async def test_a_rubric() -> None:
    """The grader sees criteria, task and text; each criterion is a term with its share of the weight and its evidence,
    whose white space does not matter."""
    seen: list[str] = []

    def decide(text: str) -> str:
        seen.append(text)
        colour = {"criterion": "colour", "score": 1, "quote": "The sky is blue. It"}
        return call("grade", grades=[colour, {"criterion": "proof", "score": 0}])

    colour, proof = await terms(Rubric("r", CRITERIA, scripted(decide), weight=2.0))
    assert (colour.name, colour.score, colour.weight, colour.shared) == ("r.colour", 1.0, 1.5, True)
    assert (proof.name, proof.score, proof.weight, proof.quote) == ("r.proof", 0.0, 0.5, "")
    assert colour.quote == "The sky is blue. It"
    for word in ("It names a colour.", "do it", "It was measured."):
        assert word in seen[0]


@pytest.mark.parametrize(
    ("grades", "why"),
    [
        ([{"criterion": "colour", "score": 1, "quote": "The sky is green."}], "does not occur"),
        ([{"criterion": "colour", "score": 1}], "without a quote"),
        ([{"criterion": "colour", "score": 0.5, "quote": "  "}], "without a quote"),
        ([], "not graded"),
        ([{"criterion": "colour", "score": 0}, {"criterion": "colour", "score": 0}], "graded 2 times"),
    ],
)
async def test_a_grade_without_evidence_does_not_count(grades: list[dict[str, object]], why: str) -> None:
    """What is claimed must be in the text; a criterion that was not graded once has no score."""
    colour, proof = await terms(Rubric("r", CRITERIA, grading(*grades, {"criterion": "proof", "score": 0})))
    assert colour.score is None
    assert why in colour.error
    assert proof.score == 0.0


async def test_a_grader_that_does_not_grade() -> None:
    """Grades out of range are refused until it gives up, and an engine may be gone: the term says so."""
    (term,) = await terms(Rubric("r", CRITERIA, grading({"criterion": "colour", "score": 7})))
    assert "did not grade: out_of_budget" in term.error

    class Gone(ScriptedEngine):
        async def generate(self, context, sampling, *, session):  # type: ignore[no-untyped-def]
            raise EngineUnavailable("cannot reach it")

    inner = grading()
    (term,) = await terms(Rubric("r", CRITERIA, Gone(inner._policy, model=inner._capacity.model)))
    assert "cannot reach it" in term.error


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_a_quote_counts_where_it_occurs(before: str, quote: str, after: str) -> None:
    """Whatever the text, a piece of it is evidence, unless it is nothing but white space."""
    from runtime.rollouts.rubric import _Grade, _term

    term = Term(name="x", agent="a1", score=None)
    said = _term(term, [_Grade(criterion="x", score=1.0, quote=quote)], f"{before} {quote} {after}")
    assert (said.score == 1.0) is bool(quote.split())
