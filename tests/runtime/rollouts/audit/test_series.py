"""What shows over a series of rollouts: the echo trap, efficiency collapse, tasks that leak."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.rollouts.audit import EchoTrap, EfficiencyCollapse, Input, PartialInputs, partial_inputs, read_transcript
from runtime.rollouts.audit.series import Watcher
from runtime.rollouts.audit.series.echo import similarity, sketch
from runtime.rollouts.audit.series.partial import wilson
from runtime.rollouts.schema import Rollout, Term
from tests.runtime.rollouts.audit.building import begun, edge, rollout, said, told
from tests.support import tiny_chat

WORDS = ["barley", "harbour", "lantern", "mill", "oats", "quarry", "river", "sluice", "timber", "wagon", "copper"]
WORDS += ["frost", "ledger", "north", "orchard"]


def attempt(name: str, step: int, texts: list[str], score: float = 1.0, task: str = "t", given: str = "") -> Rollout:
    parts = [part for text in texts for part in (said(text), told("x"))]
    info = {"step": str(step)} | ({"input": given} if given else {})
    term = Term(name="right", agent="a1", score=score)
    return rollout(
        [edge(0, None, "a1", "root", begun(task), *parts)], id=name, task=task, prompt=task, terms=(term,), info=info
    )


def watched(watcher: Watcher, series: Iterable[Rollout]) -> list[str]:
    """The classes of rows, and that their quotes are lines."""
    for one in series:
        watcher.observe(read_transcript(one, tiny_chat()))
    rows = list(watcher.rows())
    assert all("\n" not in row.quote for row in rows)
    return [row.class_ for row in rows]


def chatter(steps: int, shared: list[float], seed: int = 0) -> list[Rollout]:
    """Eight answers a step to prompts of their own; `shared` says how much of each is the same for all, by step."""
    dice = random.Random(seed)
    template = [dice.choice(WORDS) for _ in range(60)]
    out = []
    for step in range(steps):
        same = int(60 * shared[step])
        for n in range(8):
            own = [dice.choice(WORDS) for _ in range(60 - same)]
            text = " ".join([*template[:same], str(dice.randrange(1000)), *own])
            out.append(attempt(f"r{step}-{n}", step, [text], task=f"prompt {n}"))
    return out


def test_a_collapse_onto_a_template_is_found() -> None:
    """Answers to eight different prompts become the same but for a number."""
    assert watched(EchoTrap(), chatter(6, [0.0, 0.1, 0.3, 0.6, 0.9, 1.0])) == ["echo_trap"]


@pytest.mark.parametrize("shared", [[0.1] * 6, [1.0] * 6, [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]])
def test_a_format_that_was_always_there_is_none(shared: list[float]) -> None:
    """No change, whether low or high, and a little of it, are no trap."""
    assert watched(EchoTrap(), chatter(6, shared)) == []


def test_attempts_at_one_prompt_may_be_alike() -> None:
    """A model that becomes sure of its answer to one prompt says it again."""
    series = [attempt(f"r{n}", n // 8, ["the same words for the same prompt"]) for n in range(48)]
    assert watched(EchoTrap(), series) == []


def test_an_answer_of_its_own_to_each_prompt_is_none() -> None:
    """Attempts at one prompt become one answer, and so become most pairs; the other prompt's shares nothing with it."""
    dice = random.Random(2)
    own = [" ".join(dice.choice(WORDS) for _ in range(60)) for _ in range(48)]
    series = [
        attempt(f"r{n}", n // 8, [own[n] if n < 24 or n % 8 == 0 else own[1]], task=f"prompt {n % 8 == 0}")
        for n in range(48)
    ]
    assert watched(EchoTrap(), series) == []


def test_steps_with_one_prompt_only_are_no_beginning() -> None:
    """Nothing can be compared there, which is not the same as being unlike: answers were alike all along."""
    series = chatter(8, [1.0] * 8)
    alone = [one for one in series if int(one.head.info["step"]) > 1 or one.head.prompt == "prompt 0"]
    assert watched(EchoTrap(), alone) == []


def test_the_mean_of_all_pairs_counts() -> None:
    """Two of eight prompts whose answers become the same are no collapse, nor hide the others one that is."""
    few = chatter(6, [0.0] * 6)
    copied = [
        attempt(f"r{step}-{n}", step, ["the very same words"], task=f"prompt {n}") for step in (3, 4, 5) for n in (0, 1)
    ]
    own = {one.head.id for one in copied}
    assert watched(EchoTrap(), [one for one in few if one.head.id not in own] + copied) == []
    many = chatter(6, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    unlike = [one for one in few if one.head.id == "r5-7"]
    assert watched(EchoTrap(), [one for one in many if one.head.id != "r5-7"] + unlike) == ["echo_trap"]


def test_the_order_of_rollouts_does_not_matter() -> None:
    """Steps are ordered by their numbers, and which sketches are kept by the rollouts' ids."""
    series = chatter(5, [0.0, 0.2, 0.5, 1.0, 1.0])
    straight, mixed = EchoTrap(), EchoTrap()
    watched(straight, series)
    watched(mixed, random.Random(1).sample(series, len(series)))
    assert list(straight.rows()) == list(mixed.rows())


@given(
    st.lists(st.sampled_from(WORDS), min_size=3, max_size=40), st.lists(st.sampled_from(WORDS), min_size=3, max_size=40)
)
def test_similarity_is_jaccard_where_sketches_hold_all(one: list[str], other: list[str]) -> None:
    """Short texts have fewer triples than a sketch has room, and are compared exactly."""
    a, b = ({tuple(words[n : n + 3]) for n in range(len(words) - 2)} for words in (one, other))
    assert similarity(sketch([" ".join(one)]), sketch([" ".join(other)])) == pytest.approx(
        len(a & b) / len(a | b), abs=0.35
    )
    if len(a | b) <= 64:
        assert similarity(sketch([" ".join(one)]), sketch([" ".join(other)])) == len(a & b) / len(a | b)


def efficiency(lengths: list[int], shares: list[float]) -> list[Rollout]:
    """Sixteen attempts a step of so many turns, such a share of which are right."""
    return [
        attempt(f"r{step}-{n}", step, ["some words of a turn"] * length, float(n < 16 * share))
        for step, (length, share) in enumerate(zip(lengths, shares, strict=True))
        for n in range(16)
    ]


def test_shorter_and_worse_is_a_collapse() -> None:
    """Turns fall from six to two while the reward falls from 0.75 to 0.25."""
    series = efficiency([6, 6, 5, 4, 3, 2], [0.75, 0.75, 0.75, 0.5, 0.25, 0.25])
    assert watched(EfficiencyCollapse(), series) == ["efficiency_collapse"]


@pytest.mark.parametrize(
    ("lengths", "shares"),
    [
        ([6, 5, 4, 3, 2, 2], [0.5, 0.5, 0.6, 0.7, 0.75, 0.75]),  # shorter and better
        ([4, 4, 4, 4, 4, 4], [0.75, 0.75, 0.5, 0.5, 0.25, 0.25]),  # worse, but not shorter
        ([6, 5, 4, 3, 2, 2], [0.5, 0.5, 0.5, 0.5, 0.5, 0.4375]),  # no worse than by chance
        ([6, 2], [1.0, 0.0]),  # two steps are no series
    ],
)
def test_what_is_no_collapse(lengths: list[int], shares: list[float]) -> None:
    """Each alone is none."""
    assert watched(EfficiencyCollapse(), efficiency(lengths, shares)) == []


def test_a_task_that_scores_without_its_input_leaks() -> None:
    """Seven of eight right from the last sentence alone; by guessing one of eight is no leak."""
    leaky = [attempt(f"a{n}", 0, ["x"], float(n > 0), "leaky", "last_sentence") for n in range(8)]
    sound = [attempt(f"b{n}", 0, ["x"], float(n == 0), "sound", "question") for n in range(8)]
    whole = [attempt(f"c{n}", 0, ["x"], 1.0, "leaky") for n in range(8)]
    watcher = PartialInputs()
    assert watched(watcher, leaky + sound + whole) == ["leak_last_sentence", "leak_last_sentence"]
    assert "leaky: 7 of 8 scored with last sentence only; 8 of 8 with everything" in {
        row.quote for row in watcher.rows()
    }


def test_wilson_by_hand() -> None:
    """4 of 4: z^2/4 = 0.9604, (1 + 0.4802 - 1.96 * sqrt(0.060025)) / 1.9604 = 0.5101."""
    assert wilson(4, 4) == pytest.approx(0.5101, abs=1e-4)
    assert wilson(0, 8) == pytest.approx(0, abs=1e-12)
    assert wilson(0, 0) == 0.0


def test_the_inputs_that_are_partial() -> None:
    """The question alone, everything but the tools, the last sentence."""
    prompt = "You have ledgers, e.g. oats.txt. What do they add up to? Answer with a number."
    question, bare, last = partial_inputs(prompt)
    assert (question.input, question.prompt) == (Input.QUESTION, "What do they add up to?")
    assert (bare.input, bare.prompt, bare.tools, bare.files) == (Input.NO_TOOLS, prompt, False, True)
    assert (last.input, last.prompt) == (Input.LAST_SENTENCE, "Answer with a number.")
    assert question.info == {"input": "question"}
    assert partial_inputs("Fix parse(). Run the tests.")[0].prompt == "Fix parse()."
    assert partial_inputs(" \n ") == ()


@given(st.text())
def test_partial_inputs_say_nothing_that_the_prompt_does_not(prompt: str) -> None:
    """Every word of a partial input is one of the prompt's, in its order."""
    for partial in partial_inputs(prompt):
        rest = iter(prompt.split())
        assert all(word in rest for word in partial.prompt.split())
