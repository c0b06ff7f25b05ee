"""The seedling learns from its own swarms: the loss is that of whole paths, and the loop runs on a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest

from runtime.engine.base import EngineUnavailable
from runtime.engine.environment import Environment, locate, variables
from runtime.rollouts import Rollout, read_rollouts
from runtime.rollouts.credit import independent, rows, segment
from tests.runtime.rollouts.trees import grow

pytestmark = pytest.mark.engine
HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment() -> Environment:
    try:
        return locate()
    except EngineUnavailable as error:
        pytest.skip(str(error))


def of_one_context(rollout: Rollout) -> bool:
    return sum(edge.parent is None for edge in rollout.edges) == 1 and len(rollout.edges) > 1


def test_the_gradient_is_that_of_whole_paths(environment: Environment, tmp_path: Path) -> None:
    """Rows whose beginning is computed once have the gradient of rows one by one, and of independent rollouts."""
    rng = Random(7)
    groups = [[grow(rng, f"g{n}-{attempt}", plain=True) for attempt in range(3)] for n in range(20)]
    file = tmp_path / "rows.jsonl"
    with file.open("wb") as out:
        for group in groups:
            for one, parts, whole in zip(group, segment(group), independent(group), strict=True):
                if of_one_context(one):
                    kinds = {"segment": list(rows(one, parts)), "independent": list(rows(one, whole))}
                    out.write(msgspec.json.encode(kinds) + b"\n")
    command = [str(environment.python), "-m", "tests.examples.policy_gradients", str(file)]
    environ = variables(environment) | {"PYTHONPATH": str(HERE)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ, cwd=HERE)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shared"] > 5
    assert found["largest"] > 1e-3
    assert max(found["segment"], found["independent"]) < 1e-5


def test_a_step_of_learning(environment: Environment, tmp_path: Path) -> None:
    """The loop collects on a real server, learns, and serves what came of it; its figures are those of its files."""
    command = [sys.executable, "-m", "examples.train_seedling.rl", "--out", str(tmp_path), "--steps", "2"]
    command += ["--tasks", "2", "--group", "3", "--files", "2", "--exam", "2", "--exam-every", "9", "--at-once", "6"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE)
    first, *steps, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["step"] == 0
    assert last["after"] == steps[-1]["heldout"]
    for point in steps:
        made = list(read_rollouts(tmp_path / f"rollouts-{point['step']:03d}.jsonl"))
        assert len(made) == 6
        assert {one.head.info["step"] for one in made} == {str(point["step"])}
        versions = {each.version for one in made for edge in one.edges for each in edge.versions}
        assert versions == {"default" if point["step"] == 1 else "step-1"}
        assert point["trained"]["independent"] >= point["trained"]["segment"] > 0
        sampled = sum(sum(edge.sampled) for one in made for edge in one.edges)
        assert point["trained"]["segment"] == sampled
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("weak", "weights")]
    assert weights[0] != weights[1]
