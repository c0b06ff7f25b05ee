"""The seedling's data: what the sketch makes is what the harness makes, and what is trained is what was sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

import pytest
from msgspec import structs
from tokenizers import Tokenizer

from agents.context import Origin, Segment
from agents.prompts import prompt
from examples.train_seedling.drills import make_drill
from examples.train_seedling.evaluate import sit
from examples.train_seedling.rows import tree_of
from examples.train_seedling.synth import Numbering, play
from examples.train_seedling.teachers import decide
from examples.train_seedling.tokenizer import VOCABULARY, name_tokens, train_tokenizer
from runtime.budget import Budget
from runtime.demo import Kind, Story, corrector, make_story, make_survey, settings_of, write_survey
from runtime.demo.surveys import SURVEYED
from runtime.swarm import Swarm
from tests.support import call, scripted, tiny_chat

CONTEXT = 32_768  # the scripted engine's


def tree(segments: Iterable[Segment]) -> set[tuple[str, str]]:
    """A token tree: of each segment its origin, and the whole context that ends with it."""
    return {(s.origin, tiny_chat().text(s.ids())) for s in segments}


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("story", list(Story))
async def test_the_sketch_equals_the_harness(story: Story, seed: int, tmp_path: Path) -> None:
    """For one story, the contexts of the sketch are those of a real swarm whose engine is the teacher, by token."""
    made = make_story(Random(seed), story)
    write_survey(made, tmp_path)
    # Without limits, so that its status always reads 100%.
    settings = structs.replace(settings_of(story), budget=Budget(sampled_tokens=None, turns=None), turn_tokens=2048)
    engine, corrects = scripted(decide), corrector(made, tmp_path)
    async with Swarm(engine, tmp_path, settings=settings, observers=[corrects]) as swarm:
        result = await (await swarm.start(made.question)).result()
    assert result.text == made.answer
    numbering = Numbering(context_tokens=CONTEXT, run=swarm.layout.run)
    groups = play(made, prompt("terse"), tiny_chat().tokenizer.encode, numbering)
    assert tree(s for heads in groups for head in heads for s in head.path()) == tree(swarm.state.segments.values())


@pytest.mark.parametrize("story", list(Story))
def test_each_sampled_token_is_trained_once(story: Story) -> None:
    """Over the trees the trained tokens are the sampled ones; the trunk with each branch is one of the contexts."""
    for heads in play(make_story(Random(5), story), prompt("terse"), tiny_chat().tokenizer.encode):
        sampled = {id(s): len(s.tokens) for head in heads for s in head.path() if s.origin is Origin.SAMPLED}
        grown = tree_of(heads)
        trained = sum(sum(span.mask) for span in (grown.trunk, *grown.branches))
        assert trained == sum(sampled.values())
        contexts = [[*grown.trunk.tokens, *branch.tokens] for branch in grown.branches] or [grown.trunk.tokens]
        assert contexts == [head.ids() for head in heads]


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
    for kind in SURVEYED:
        survey = make_survey(Random(1), kind=kind)
        ((head, *_),) = play(survey, prompt("terse"), tokenizer_encode(tokenizer))
        fixed = prompt("terse") + "\nassistant\nfinish budget context"
        assert not names & set(tokenizer.encode(fixed).ids)
        assert names & set(head.ids())


@pytest.mark.anyio
async def test_a_wrong_answer_is_traced_to_its_first_wrong_action() -> None:
    """The exam marks what the teacher answers as right, and otherwise says which action was not the teacher's."""
    survey = make_survey(Random(3), files=3, kind=Kind.SUM, split="heldout")
    for story in Story:
        for seed in range(4):
            mark = await sit(scripted(decide), tiny_chat(), seed, make_story(Random(seed), story, split="heldout"))
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
