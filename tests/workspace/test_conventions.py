"""AGENTS.md and skills: what every agent gets, and the one section that may be rewritten."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace import Skill, WorkspaceError, find_skills, read_conventions, write_section
from workspace.conventions import BEGIN, END, MAX_AGENTS_BYTES


def test_a_project_without_anything_says_nothing(tmp_path: Path) -> None:
    """No file, a directory of that name, a link: nothing, and no error."""
    assert (read_conventions(tmp_path), find_skills(tmp_path)) == ("", [])
    (tmp_path / "AGENTS.md").symlink_to("/etc/passwd")
    assert read_conventions(tmp_path) == ""
    with pytest.raises(WorkspaceError, match="symbolic link"):
        write_section(tmp_path, "x")


def test_what_is_too_long_is_cut_and_says_so(tmp_path: Path) -> None:
    """Controls are made visible; a long file is cut with where the whole is."""
    (tmp_path / "AGENTS.md").write_text("\x1b[31mred")
    assert read_conventions(tmp_path) == "␛[31mred"
    (tmp_path / "AGENTS.md").write_text("a" * (MAX_AGENTS_BYTES + 1))
    assert read_conventions(tmp_path).endswith(f"a\n[cut after {MAX_AGENTS_BYTES} bytes: read AGENTS.md]")


def test_a_section_is_written_and_rewritten(tmp_path: Path) -> None:
    """First at the end of what is there, then in its own place; the rest stays to the byte."""
    file = tmp_path / "AGENTS.md"
    write_section(tmp_path, "one")
    assert file.read_text() == f"{BEGIN}\none\n{END}\n"
    file.write_bytes(b"before\xff\r\n" + file.read_bytes() + b"after")
    write_section(tmp_path, f"two\n{END}\nthree")
    assert file.read_bytes() == b"before\xff\r\n" + f"{BEGIN}\ntwo\n\nthree\n{END}\n".encode() + b"after"


@pytest.mark.parametrize("text", [BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_marker_without_the_other_changes_nothing(tmp_path: Path, text: str) -> None:
    """It is refused in one line that says what to do."""
    (tmp_path / "AGENTS.md").write_text(text)
    with pytest.raises(WorkspaceError, match="without the one"):
        write_section(tmp_path, "x")
    assert (tmp_path / "AGENTS.md").read_text() == text


@given(before=st.binary(max_size=200), sections=st.lists(st.text(max_size=50), min_size=1, max_size=4))
def test_nothing_outside_the_markers_is_touched(
    before: bytes, sections: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However often and with whatever it is rewritten, the file is what it was, and one section."""
    directory = tmp_path_factory.mktemp("project")
    file = directory / "AGENTS.md"
    file.write_bytes(before)
    for section in sections:
        write_section(directory, section)
        content = file.read_bytes()
        assert content.startswith(before)
        assert content.count(BEGIN.encode()) == content.count(END.encode()) == 1


def test_skills_are_listed_by_name_and_description(tmp_path: Path) -> None:
    """Each directory's front matter; those without one are left out."""
    for name, text in {
        "zip": "---\nname: zip\ndescription: 'Pack things'\nlicense: MIT\n---\nLong text\nname: other",
        "none": "no front matter",
        "half": "---\nname: half\n---\n",
        "odd": "---\n# comment\n  name: nested\nname: odd\x1b\ndescription: d: e\n",
    }.items():
        (tmp_path / ".agents/skills" / name).mkdir(parents=True)
        (tmp_path / ".agents/skills" / name / "SKILL.md").write_text(text)
    assert find_skills(tmp_path) == [
        Skill(name="odd␛", description="d: e", path=".agents/skills/odd/SKILL.md"),
        Skill(name="zip", description="Pack things", path=".agents/skills/zip/SKILL.md"),
    ]
