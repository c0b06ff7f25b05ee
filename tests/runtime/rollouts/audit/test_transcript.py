"""Tokens to events: who said what, and where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.rollouts.audit import Kind, inspect, read_transcript
from tests.runtime.rollouts.audit.building import begun, edge, rollout, said, told
from tests.support import call, tiny_chat


def test_events_are_in_order_and_cover_every_token() -> None:
    """Given and said events tile each edge; calls have names and arguments; a result knows what it answers."""
    one = rollout(
        [
            edge(0, None, "a1", "root", begun("go"), said(call("read_file", path="a.txt")), told("x"), said("hm")),
            edge(1, 0, "a2", "fork", told("You are copy 1 of 1."), said(call("finish", result="r"))),
        ],
        parents={"a2": ("a1", "fork")},
    )
    transcript = read_transcript(one, tiny_chat())
    for item in one.edges:
        spans = [event.span for event in transcript.by_edge[item.id] if event.kind is not Kind.CALLED]
        assert [0, *(stop for _, stop in spans)] == [*(start for start, _ in spans), len(item.tokens)]
    root = transcript.by_edge[0]
    assert [event.kind for event in root] == [Kind.PROMPT, Kind.SAID, Kind.CALLED, Kind.TOLD, Kind.SAID]
    assert [event.turn for event in root] == [0, 0, 0, 1, 1]
    assert root[2].call is not None
    assert (root[2].call.name, root[2].call.arguments) == ("read_file", {"path": "a.txt"})
    assert root[3].answers == (root[2],)
    last = transcript.by_edge[1][-1]
    assert [event.edge for event in transcript.before(last)] == [1, 1, 0, 0, 0, 0, 0]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), st.text("aé漢😀 ", max_size=20))
def test_a_span_spells_its_quote(before: str, after: str) -> None:
    """Whatever letters stand around it, and however they are cut into tokens."""
    text = tiny_chat().neutralise(f"{before}git log --all{after}")
    transcript = read_transcript(rollout([edge(0, None, "a1", "root", begun(text), said("ok"))]), tiny_chat())
    event = transcript.by_edge[0][0]
    begin, end = transcript.span_of(event, "git log --all")
    assert tiny_chat().text(transcript.edges[0].tokens[begin:end]) == "git log --all"


def test_rows_have_all_fields() -> None:
    """A row says where its hit is; the span of a command within JSON escapes is found too."""
    command = 'echo "x" && git log --all'
    one = rollout([edge(0, None, "a1", "root", begun("go"), said(call("shell", command=command)), told("x"))])
    (row,) = inspect(read_transcript(one, tiny_chat()))
    assert (row.class_, row.severity, row.agent, row.turn, row.segment) == ("git_log_all", "high", "a1", 0, 0)
    assert row.span is not None
    assert tiny_chat().text(one.edges[0].tokens[slice(*row.span)]) == row.quote == "git log --all"


@given(st.text(max_size=200))
def test_nothing_that_a_model_writes_breaks_it(command: str) -> None:
    """Any text as a command, as code, as a turn."""
    command = command.encode("utf-8", "ignore").decode()
    turns = [call("shell", command=command), call("python", code=command), tiny_chat().neutralise(command)]
    one = rollout(
        [edge(0, None, "a1", "root", begun("go"), *(part for turn in turns for part in (said(turn), told("x"))))]
    )
    inspect(read_transcript(one, tiny_chat()))
