"""What agents are told where something is left out or stopped: each text names the limit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agents.told import MAX_SKILLS, exit_text, project_text
from workspace import Limits


def skills(number: int) -> list[tuple[str, str, str]]:
    """So many of a project."""
    return [(f"s{n}", "Helps", f".agents/skills/s{n}/SKILL.md") for n in range(number)]


def test_as_many_skills_are_listed_as_have_room_and_the_rest_is_counted() -> None:
    """At the limit there is nothing more to say; past it, how many are left out and where all of them lie."""
    whole = project_text("", skills(MAX_SKILLS))
    assert len(whole.splitlines()) == 1 + MAX_SKILLS
    cut = project_text("", skills(MAX_SKILLS + 3))
    assert cut == f"{whole}\n[3 more skills are not listed, {MAX_SKILLS} are: all of them are in .agents/skills]"
    assert project_text("", []) == ""


@pytest.mark.parametrize(
    ("command", "limit", "said"),
    [
        ("ulimit -S -f 1; seq 100000 > file; exit $?", "--limit file", "larger than 7 bytes"),
        ("ulimit -S -t 1; while :; do :; done", "--limit cpu", "more than 5 s"),
    ],
)
def test_an_exit_code_tells_of_a_limit(tmp_path: Path, command: str, limit: str, said: str) -> None:
    """Two limits have signals of their own; of any other exit code nothing more is said than what it is."""
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    code = ended.returncode if ended.returncode >= 0 else 128 - ended.returncode
    told = exit_text(code, Limits(cpu_s=5, file_bytes=7))
    assert told.startswith(f"exit code {code}: ")
    assert limit in told
    assert said in told
    assert exit_text(137, Limits()) == "exit code 137"
