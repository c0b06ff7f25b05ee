"""The seedling's data: what the sketch makes is what the harness makes, and what is trained is what was sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from agents.context import Origin
from agents.prompts import prompt
from examples.train_seedling.drills import make_drill
from examples.train_seedling.evaluate import sit
from examples.train_seedling.rows import tree_of
from examples.train_seedling.synth import Numbering, play
from examples.train_seedling.teachers import decide
from examples.train_seedling.tokenizer import VOCABULARY, name_tokens, train_tokenizer
from runtime.budget import Budget
from runtime.demo import Kind, make_survey, write_survey
from runtime.swarm import Swarm
from tests.support import call, scripted, tiny_chat

CONTEXT = 32_768  # the scripted engine's


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(24))
async def test_the_sketch_equals_the_harness(seed: int, tmp_path: Path) -> None:
    """For one survey, the contexts of the sketch are those of a real swarm whose engine is the teacher, by token."""
    survey = make_survey(Random(seed), kind=list(Kind)[seed % len(Kind)])
    write_survey(survey, tmp_path)
    unlimited = Budget(sampled_tokens=None, turns=None)  # so that its status always reads 100%
    async with Swarm(scripted(decide), tmp_path, budget=unlimited) as swarm:
        result = await (await swarm.start(survey.question)).result()
    assert result.text == survey.answer
    played = [list(agent.head.path()) for agent in swarm.state.agents.values()]
    numbering = Numbering(context_tokens=CONTEXT)
    sketched = [list(h.path()) for h in play(survey, prompt("terse"), tiny_chat().tokenizer.encode, numbering)]
    text = tiny_chat().text
    for real, sketch in zip(played, sketched, strict=True):
        assert [text(s.tokens) for s in sketch] == [text(s.tokens) for s in real]
        assert [(s.origin, s.tokens) for s in sketch] == [(s.origin, s.tokens) for s in real]


def test_each_sampled_token_is_trained_once() -> None:
    """Over one tree the trained tokens are the sampled ones; the trunk with each branch is one of the contexts."""
    survey = make_survey(Random(5), files=4)
    heads = play(survey, prompt("terse"), tiny_chat().tokenizer.encode)
    sampled = {id(s): len(s.tokens) for head in heads for s in head.path() if s.origin is Origin.SAMPLED}
    tree = tree_of(heads)
    assert [[*tree.trunk.tokens, *branch.tokens] for branch in tree.branches] == [head.ids() for head in heads]
    assert sum(sum(span.mask) for span in (tree.trunk, *tree.branches)) == sum(sampled.values())
    alone = tree_of(heads[:1])
    assert (alone.trunk.tokens, alone.branches) == (heads[0].ids(), ())


def tokenizer_encode(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    return lambda text: list(tokenizer.encode(text).ids)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = train_tokenizer(tmp_path_factory.mktemp("tokenizer"), surveys=300)
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def test_a_name_is_cut_alike_everywhere(tokenizer: Tokenizer) -> None:
    """Digits are single tokens, text comes back, and a path's tokens do not depend on what stands around it."""
    assert tokenizer.get_vocab_size() == VOCABULARY
    for seed in range(50):
        for path, text in make_survey(Random(seed), split="heldout").files.items():
            assert tokenizer.decode(tokenizer.encode(text).ids) == text
            plain = tokenizer.encode(path).ids
            for before, after in (("\n", "\n"), ('["', '", "'), ("412 ", '"}}'), ("Your task: ", "\n[a3")):
                ids = tokenizer.encode(before + path + after).ids
                assert plain in [ids[i : i + len(plain)] for i in range(len(ids))]
    assert all(len(tokenizer.encode(str(n)).ids) == len(str(n)) for n in range(0, 10_000, 37))


def test_drills_can_be_answered_from_themselves(tokenizer: Tokenizer) -> None:
    """Every drill has something to train, and keeps to the vocabulary."""
    for seed in range(200):
        drill = make_drill(Random(seed), lambda text: list(tokenizer.encode(text).ids), VOCABULARY - 9)
        assert any(drill.trunk.mask)
        assert len(drill.trunk.mask) == len(drill.trunk.tokens)
        assert max(drill.trunk.tokens) < VOCABULARY


def test_names_have_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    """What training exchanges among names is no part of a wording, a sentence or a call: those stay as they are."""
    names = set(name_tokens(tokenizer))
    assert len(names) > 300
    for kind in Kind:
        survey = make_survey(Random(1), kind=kind)
        head = play(survey, prompt("terse"), tokenizer_encode(tokenizer))[0]
        fixed = prompt("terse") + "\nassistant\nfinish budget context"
        assert not names & set(tokenizer.encode(fixed).ids)
        assert names & set(head.ids())


@pytest.mark.anyio
async def test_a_wrong_answer_is_traced_to_its_first_wrong_action() -> None:
    """The exam marks what the teacher answers as right, and otherwise says which action was not the teacher's."""
    survey = make_survey(Random(3), files=3, kind=Kind.SUM, split="heldout")
    mark = await sit(scripted(decide), tiny_chat(), 3, survey)
    assert (mark.right, mark.wrong) == (True, None)

    def careless(text: str) -> str:
        return decide(text).replace("sum(", "max(")

    mark = await sit(scripted(careless), tiny_chat(), 3, survey)
    assert not mark.right
    assert mark.wrong is not None
    assert call("calc", expression="max(results)") in mark.wrong["said"]


def test_the_teacher_refuses_what_is_no_survey() -> None:
    """It has no answer for another question: ValueError, which an exam reports."""
    ask: Sequence[int] = tiny_chat().begin("system", "How are you?\n[a1 t0]")
    with pytest.raises(ValueError, match="question"):
        decide(tiny_chat().text(ask))
