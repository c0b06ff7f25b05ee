"""What a project tells all its agents, and people of what that leaves out."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from agents.told import MAX_SKILLS
from runtime.telling import read_project


def offer(directory: Path, skills: int) -> None:
    """Make so many skills."""
    for number in range(skills):
        place = directory / ".agents/skills" / f"s{number:03}"
        place.mkdir(parents=True)
        (place / "SKILL.md").write_text(f"---\nname: s{number}\ndescription: Helps\n---\n")


def test_a_skill_too_many_is_counted_for_agents_and_for_people(tmp_path: Path) -> None:
    """At the limit nobody is warned; past it agents are told how many there are more, and a log line says the same."""
    offer(tmp_path, MAX_SKILLS)
    (tmp_path / "AGENTS.md").write_text("Be brief.")
    with capture_logs() as logs:
        told = read_project(tmp_path)
    assert logs == []
    assert told.startswith("This project's AGENTS.md:\nBe brief.\n\nSkills")
    assert "not listed" not in told
    offer(tmp_path / "more", MAX_SKILLS + 2)
    with capture_logs() as logs:
        told = read_project(tmp_path / "more")
    (line,) = logs
    assert (line["log_level"], line["told"], line["not_told"]) == ("warning", MAX_SKILLS, 2)
    assert told.endswith(f"[2 more skills are not listed, {MAX_SKILLS} are: all of them are in .agents/skills]")
