"""Formats that hold the tree: every context can be put together again, and each token has its worth."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from runtime.rollouts.credit.shares import spans_of
from runtime.rollouts.export import export
from runtime.rollouts.export._batch import worth
from runtime.rollouts.schema import Edge, Rollout, read_rollouts, write_rollout
from tests.runtime.rollouts.export.schemas import Episode, Node, Step, Trajectory
from tests.runtime.rollouts.export.trees import credited, exported, files, in_order, steady


def write(path: Path, found: list[Rollout]) -> Path:
    """A file of rollouts."""
    with path.open("wb") as file:
        for one in found:
            write_rollout(file, one)
    return path


@steady
@given(found=files())
def test_native_is_what_was_read(found: list[Rollout], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exporting and reading again gives the same rollouts, group by group; exporting once more, the same bytes."""
    folder = tmp_path_factory.mktemp("native")
    again = folder / "again.jsonl"
    out = io.BytesIO()
    counts = export(write(folder / "first.jsonl", found), "native", out, complain=pytest.fail)
    again.write_bytes(out.getvalue())
    assert list(read_rollouts(again)) == in_order(found)
    assert counts.rollouts == len(found)
    second = io.BytesIO()
    export(again, "native", second, complain=pytest.fail)
    assert second.getvalue() == out.getvalue()


def branch(nodes: list[Node], at: int) -> list[Node]:
    """The nodes from a root to this one."""
    out: list[Node] = []
    where: int | None = at
    while where is not None:
        out.append(nodes[where])
        where = nodes[where].parent
    return out[::-1]


@steady
@given(found=files())
def test_verifiers_nodes_hold_every_context_and_the_worth_of_its_tokens(found: list[Rollout]) -> None:
    """The nodes down to an edge's last one are its context; so are mask, log-probabilities and advantages."""
    lines = [msgspec.convert(line, Episode) for line in exported(found, "verifiers")]
    for episode, (rollout, credit) in zip(lines, credited(found), strict=True):
        assert episode.id == rollout.head.id
        ends = {one["id"]: (trace, one["node"]) for trace in episode.traces for one in trace.info["ramet"]["edges"]}
        assert set(ends) == {edge.id for edge in rollout.edges}
        frozen = {member.id for member in rollout.head.members if not member.trainable}
        for edge in rollout.edges:
            trace, at = ends[edge.id]
            nodes = branch(trace.nodes, at)
            assert [token for node in nodes for token in node.token_ids] == rollout.context(edge.id)
            path = rollout.path(edge.id)
            mine = [(one, at) for one in path if one.agent not in frozen for at in _sampled(one)]
            assert [bit for node in nodes for bit in node.mask] == [
                bit and one.agent not in frozen for one in path for bit in one.sampled
            ]
            assert [lp for node in nodes for lp in node.logprobs] == [one.logprobs[at] for one, at in mine]
            values = {one.id: worth(one, credit, spans_of(credit)) for one in path}
            assert [value for node in nodes for value in node.advantages or ()] == [
                part[at] for one, at in mine if (part := values[one.id]) is not None
            ]


def _sampled(edge: Edge) -> list[int]:
    return [at for at, mine in enumerate(edge.sampled) if mine]


@steady
@given(found=files())
def test_an_atif_line_goes_on_from_the_step_that_it_names(found: list[Rollout]) -> None:
    """Following `extra.fork` back gives the context of every edge, and `token_offset` its length before the line."""
    lines = [msgspec.convert(line, Trajectory) for line in exported(found, "atif")]
    for root, rollout in zip(lines, [one for one in in_order(found) if one.edges], strict=True):
        documents = {one.trajectory_id: one for one in (root, *root.subagent_trajectories)}
        found_edges = set()
        for document in documents.values():
            fork = document.extra.get("fork")
            assert (fork is None) == (document is root or document.extra.get("kind") == "spawn")
            if fork:
                assert (
                    len(context(documents, fork["parent_trajectory_id"], fork["parent_step_id"]))
                    == (fork["token_offset"])
                )
            for step in document.steps:
                found_edges.add(step.extra["edge"])
                last = next((one for one in document.steps if one.step_id == step.step_id + 1), None)
                if last is None or last.extra["edge"] != step.extra["edge"]:
                    tokens = context(documents, document.trajectory_id, step.step_id)
                    assert tokens == rollout.context(step.extra["edge"])
        assert found_edges == {edge.id for edge in rollout.edges if edge.tokens}


def context(documents: dict[str, Trajectory], name: str, step: int) -> list[int]:
    """All tokens up to a step, those of the lines that it goes on from first."""
    document = documents[name]
    fork = document.extra.get("fork")
    before = context(documents, fork["parent_trajectory_id"], fork["parent_step_id"]) if fork else []
    return before + [token for one in document.steps[:step] for token in tokens_of(one)]


def tokens_of(step: Step) -> list[int]:
    """A step's own."""
    return step.extra["token_ids"] if step.metrics is None else step.metrics.completion_token_ids
