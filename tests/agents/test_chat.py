"""Messages to tokens and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.chat import Chat, ChatError
from agents.context import Origin, Segment
from agents.tokenizer import ModelNotFound
from tests.support import SPECIAL, STRUCTURAL, call, tiny_chat, tiny_model

texts = st.text(max_size=40) | st.sampled_from([*SPECIAL, *STRUCTURAL, f"a{STRUCTURAL[2]}b"])


def turn(chat: Chat, said: str, parent: Segment, *, stop: bool = True) -> Segment:
    """A sampled segment."""
    tokens = [*chat.tokenizer.encode(said), *([chat.stop_token_ids[0]] if stop else [])]
    return Segment(parent.id + 1, parent, Origin.SAMPLED, tokens)


def root(chat: Chat) -> Segment:
    """The first given segment of a context."""
    return Segment(1, None, Origin.GIVEN, chat.begin("be brief", "hello"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts, st.booleans()), max_size=4))
def test_a_context_only_grows(turns: list[tuple[str, str, bool]]) -> None:
    """Whatever a model says and is told, each prompt begins with the prompt and the turn before it, unchanged, and
    ends by asking for a turn."""
    chat = tiny_chat()
    head = root(chat)
    asks = chat.tokenizer.encode("<|im_start|>assistant\n")
    for said, told, stop in turns:
        sampled = turn(chat, said, head, stop=stop)
        answers = len(chat.parse(sampled).calls) or 1
        given_ = Segment(sampled.id + 1, sampled, Origin.GIVEN, chat.extend(sampled, [told] * answers))
        assert given_.ids()[: sampled.length] == sampled.ids()
        assert given_.ids()[-len(asks) :] == asks
        head = given_


@settings(deadline=None)
@given(texts)
def test_told_text_has_no_structure(told: str) -> None:
    """Text that comes from outside adds no structural token, whatever it spells."""
    chat = tiny_chat()
    sampled = turn(chat, call("calc", expression="1"), root(chat))
    plain = chat.extend(sampled, [""])
    ids = {chat.tokenizer.convert_tokens_to_ids(t) for t in (*SPECIAL, *STRUCTURAL)}
    count = [t for t in chat.extend(sampled, [told]) if t in ids]
    assert count == [t for t in plain if t in ids]


def test_a_fork_and_its_parent_differ_only_after_the_turn() -> None:
    """Two answers to the same call share everything up to the end of the sampled tokens, and then more."""
    chat = tiny_chat()
    sampled = turn(chat, call("fork", tasks=["a"]), root(chat))
    mine, theirs = (sampled.ids() + chat.extend(sampled, [text]) for text in ("You are copy 1", "results"))
    assert mine[: sampled.length] == theirs[: sampled.length] == sampled.ids()


def test_from_a_checkpoint_the_asked_turn_is_closed_empty() -> None:
    """After a given head a message begins with the end of the turn that was asked for and not taken."""
    chat = tiny_chat()
    tokens = chat.extend(root(chat), ["news"])
    assert tokens[0] == chat.stop_token_ids[0]
    assert "news" in chat.text(tokens)


def test_calls_are_read_or_have_a_problem() -> None:
    """A good call is read; a broken one is a call with words for the model; prose and thinking are kept apart."""
    chat = tiny_chat()
    start = root(chat)
    good = chat.parse(turn(chat, "<think>\nhm\n</think>\n\nSo:\n" + call("calc", expression="1+1"), start))
    assert (good.thinking, good.text) == ("hm", "So:")
    assert [(c.name, c.arguments) for c in good.calls] == [("calc", {"expression": "1+1"})]
    cut = chat.parse(turn(chat, '<tool_call>\n{"name": "calc"', start, stop=False))
    assert cut.calls[0].problem
    assert "unclosed" in cut.calls[0].problem
    assert chat.parse(turn(chat, "plain", start)).calls == ()


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    """A directory without a tokenizer is named, in one line."""
    with pytest.raises(ModelNotFound, match=r"no tokenizer\.json") as error:
        Chat.load(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_family_that_cannot_be_extended_says_so(tmp_path: Path) -> None:
    """A tokenizer whose family is unknown cannot be used, and loading it says why."""
    (tmp_path / "tokenizer.json").write_bytes((Path(tiny_model()) / "tokenizer.json").read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "nobody_knows"}')
    with pytest.raises(ChatError, match="cannot be extended"):
        Chat.load(str(tmp_path))
