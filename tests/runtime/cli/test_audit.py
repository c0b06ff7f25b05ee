"""`ramet audit`: the real command line over files of rollouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from runtime.cli import _main as main
from runtime.engine.scripted import text_policy
from runtime.rollouts.audit.reward import rewards_of
from runtime.rollouts.schema import Rollout, Term, read_rollouts, write_rollout
from tests.runtime.cli.conftest import Ramet
from tests.runtime.cli.server import ScriptedServer, serving
from tests.runtime.rollouts.audit.building import begun, edge, rollout, said, told
from tests.runtime.rollouts.audit.test_propose import PROPOSAL, proposer
from tests.runtime.rollouts.audit.test_taint import forked, made
from tests.support import call, tiny_chat, tiny_model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A rollout with a hit in a branch that is joined, and a clean one."""
    clean = rollout(
        [edge(0, None, "a1", "root", begun("go"), said(call("shell", command="git log -5")), told("x"))], id="r2"
    )
    peeked = made(forked(prefix=False, branch=True, joins=True))
    term = Term(name="tests", agent="a1", score=1.0, shared=True)
    return written(tmp_path / "rollouts.jsonl", *(with_term(one, term) for one in (peeked, clean)))


def with_term(one: Rollout, term: Term) -> Rollout:
    return structs.replace(one, head=structs.replace(one.head, terms=(term,)))


def written(path: Path, *rollouts: Rollout) -> Path:
    with path.open("wb") as out:
        for one in rollouts:
            write_rollout(out, one)
    return path


def test_rows_as_json(ramet: Ramet, file: Path) -> None:
    """One object a row, with the fields that the format names, and a summary last."""
    ended = ramet("audit", file, "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    row, last = map(json.loads, ended.stdout.splitlines())
    assert list(row)[:7] == ["class", "severity", "agent", "turn", "segment", "span", "quote"]
    assert (row["class"], row["agent"], row["taints"], row["rollout"]) == ("git_log_all", "a2", [1, 3, 4], "r1")
    assert last == {"event": "audit_ended", "rollouts": 2, "with_hits": 1, "classes": {"git_log_all": 1}}


def test_rows_for_people(ramet: Ramet, file: Path) -> None:
    """A line each, and one that sums up."""
    lines = ramet("audit", file).stdout.splitlines()
    assert "git_log_all" in lines[0]
    assert "segments 1, 3, 4" in lines[0]
    assert lines[1] == "2 rollouts, 1 with hits: 1 git_log_all"


def test_writing_what_is_left(ramet: Ramet, file: Path, tmp_path: Path) -> None:
    """Dropped: marked and why. Zeroed: the tainted have no reward, the clean sibling and rollout keep theirs."""
    assert ramet("audit", file, "--drop", tmp_path / "d", "--zero", tmp_path / "z").returncode == 0
    first, second = read_rollouts(tmp_path / "d")
    assert (first.head.dropped, second.head.dropped) == ("audit: git_log_all by a2", "")
    first, second = read_rollouts(tmp_path / "z")
    assert [rewards_of(first.head, name)[None] for name in ("a1", "a2", "a3", "a4")] == [0, 0, 1, 0]
    assert rewards_of(second.head, "a1") == {None: 1.0}
    assert list(tmp_path.glob("*.part")) == []


def test_partial_inputs(ramet: Ramet, tmp_path: Path) -> None:
    """With the flag, tasks that score without their input are rows."""
    term = Term(name="right", agent="a1", score=1.0)
    one = rollout([edge(0, None, "a1", "root", begun("go"), said("x"))], info={"input": "no_tools"}, terms=(term,))
    file = written(tmp_path / "f", *[one] * 4)
    assert "leak" not in ramet("audit", file).stdout
    assert "t: 4 of 4 scored with no tools only" in ramet("audit", file, "--partial").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing"], ["FILE", "missing"]),
        (["."], ["FILE", "directory"]),
        (["bad"], ["bad:1", "not a record"]),
        (["nameless"], ["nameless", "r1", "model", "--model"]),
        (["foreign"], ["foreign", "model", "nowhere", "--model"]),
        (["good", "--model", "./nowhere"], ["--model", "nowhere"]),
        (["good", "--drop", "good"], ["--drop", "good"]),
        (["good", "--zero", "no/where"], ["--zero", "no"]),
        (["good", "--drop", "x", "--zero", "x"], ["--zero", "same"]),
        (["good", "--url", "http://127.0.0.1:9"], ["--propose"]),
        (["good", "--propose", "bad"], ["--propose", "bad"]),
    ],
)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    """One clear line that names file and field, exit code 2, nothing written."""
    monkeypatch.chdir(tmp_path)
    one = rollout([edge(0, None, "a1", "root", begun("go"), said("x"))])
    (tmp_path / "bad").write_text("{}\n")
    written(tmp_path / "good", one)
    for name, model in {"nameless": "", "foreign": "./nowhere"}.items():
        written(tmp_path / name, structs.replace(one, head=structs.replace(one.head, model=model)))
    before = sorted(tmp_path.iterdir())
    assert main.run(["audit", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line
    assert sorted(tmp_path.iterdir()) == before


def test_the_rest_goes_on(ramet: Ramet, file: Path) -> None:
    """A rollout that contradicts itself is skipped, a cut one ends the file: a line each, and rows of the others."""
    whole = file.read_bytes()
    one = rollout([edge(0, None, "a1", "root", begun("go"))], id="odd")
    odd = written(file.with_name("odd"), structs.replace(one, edges=(structs.replace(one.edges[0], logprobs=()),)))
    file.write_bytes(odd.read_bytes() + whole + whole[: len(whole) // 2])
    ended = ramet("audit", file, "--json", "--model", tiny_model())
    assert ended.returncode == 2
    assert json.loads(ended.stdout.splitlines()[-1])["rollouts"] >= 2
    first, second = ended.stderr.splitlines()
    assert "odd" in first
    assert "differ in length" in first
    assert f"{file}:" in second


@pytest.mark.parametrize("cut", [2, 30, 300])
def test_a_truncated_file(ramet: Ramet, file: Path, cut: int) -> None:
    """One line says where it ends, the exit code is 2, and what is whole is audited."""
    file.write_bytes(file.read_bytes()[:-cut])
    ended = ramet("audit", file, "--model", tiny_model())
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"ramet: {file}:")
    assert ended.returncode == 2
    assert ended.stdout.splitlines()[-1] == "1 rollouts, 1 with hits: 1 git_log_all"


def test_proposing(ramet: Ramet, file: Path, tmp_path: Path) -> None:
    """The agent of another server reads the rollouts and leaves a file; standard output has only the audit."""
    with serving(ScriptedServer(text_policy(tiny_chat(), proposer), tiny_model())) as server:
        ended = ramet("audit", file, "--json", "--propose", tmp_path / "p", "--url", server.url)
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "p/rollouts").iterdir())) == 2
    assert (tmp_path / "p/proposals/early.py").read_text() == PROPOSAL
    assert "early.py" in ended.stderr
    assert len(ended.stdout.splitlines()) == 2
