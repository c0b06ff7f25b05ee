"""An agent proposes detectors from a folder; a person decides."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agents.host import Outcome
from runtime.errors import BadInput
from runtime.rollouts.audit import DETECTORS, inspect, read_transcript
from runtime.rollouts.audit.propose import check, propose, write_rollouts
from tests.runtime.rollouts.audit.test_taint import forked, made
from tests.support import answer, call, scripted, tiny_chat

PROPOSAL = "raise SystemExit('a proposal was run')\nDETECTOR = None\n"


def lay_out(directory: Path) -> None:
    """A folder with one rollout, in whose branch somebody peeked."""
    transcript = read_transcript(made(forked(prefix=False, branch=True, joins=True)), tiny_chat())
    assert write_rollouts(directory, [(transcript, inspect(transcript))]) == 1


def proposer(text: str) -> str:
    """Reads the one rollout that it lists, and writes what it makes of it."""
    last = answer(text)
    if "== segment 1 after 0: fork, agent a2" in text and "found git_log_all" in text:
        if "bytes)" not in last:
            return call("write_file", path="proposals/early.py", text=PROPOSAL)
        return call("finish", result="early: it finished at once")
    if last.startswith("rollouts/"):
        return call("read_file", path=last.split()[0])
    return call("list_files", path="rollouts")


@pytest.mark.anyio
async def test_proposals_land_as_files_and_are_not_run(tmp_path: Path) -> None:
    """The agent sees the rollouts as text; its file lies in the folder, and no detector is new."""
    lay_out(tmp_path / "folder")
    before, modules = DETECTORS, set(sys.modules)
    outcome, proposals = await propose(scripted(proposer), tmp_path / "folder", chat=tiny_chat())
    assert outcome is Outcome.FINISHED
    assert [(Path(one.path).name, one.problem) for one in proposals] == [("early.py", "")]
    assert (tmp_path / "folder/proposals/early.py").read_text() == PROPOSAL
    assert DETECTORS is before
    assert not [name for name in set(sys.modules) - modules if "early" in name]


@pytest.mark.anyio
async def test_the_proposer_has_no_shell(tmp_path: Path) -> None:
    """What rollouts say may be meant for it: it can only read and write files of the folder."""
    lay_out(tmp_path)

    def tries(text: str) -> str:
        if "there is no tool 'shell'" in text:
            return call("finish", result="none")
        return call("shell", command="touch /tmp/x")

    outcome, proposals = await propose(scripted(tries), tmp_path, chat=tiny_chat())
    assert (outcome, proposals) == (Outcome.FINISHED, [])


def test_what_can_be_said_of_a_proposal(tmp_path: Path) -> None:
    """One that does not parse, or defines no DETECTOR, is named as such."""
    for name, text in {"a": "def (", "b": "x = 1", "c": "DETECTOR: object = 1"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    problems = [check(tmp_path / f"{name}.py").problem for name in "abc"]
    assert problems[0].startswith("does not parse")
    assert problems[1:] == ["defines no DETECTOR", ""]


def test_not_into_our_own_code(tmp_path: Path) -> None:
    """A folder within the package could be imported one day: refused, as is a file."""
    import runtime.rollouts.audit

    (tmp_path / "file").touch()
    for place in (Path(runtime.rollouts.audit.__file__).parent / "detectors", tmp_path / "file"):
        with pytest.raises(BadInput, match="--propose"):
            write_rollouts(place, [])
