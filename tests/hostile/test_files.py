"""Paths that lead out, to what is no file, or to what is not a model's to write."""

from __future__ import annotations

import pytest

from tests.hostile.corpus import Attack, attacks
from tests.hostile.ground import SECRET, Ground, bounded
from workspace import FileRefused

pytestmark = pytest.mark.anyio

ARGUMENTS: dict[str, dict[str, object]] = {
    "read_file": {},
    "write_file": {"text": "forged"},
    "list_files": {},
    "search": {"pattern": "canary|root:|forged"},
}


@pytest.mark.parametrize("attack", attacks("paths"), ids=lambda attack: f"{attack.kind}-{attack.way}")
async def test_a_path_leads_nowhere(ground: Ground, attack: Attack) -> None:
    """Every file tool refuses it with an error, and nothing that must stay has changed."""
    with bounded(0):
        reply = await ground.attempt(attack.way, path=ground.filled(attack.how), **ARGUMENTS[attack.way])
    assert reply.error, reply
    ground.assert_intact()


@pytest.mark.parametrize("attack", attacks("patterns", "glob bombs"), ids=lambda attack: attack.way)
async def test_a_path_is_no_pattern(ground: Ground, attack: Attack) -> None:
    """No shell and no glob reads a path: it names one file of the project, or none."""
    with bounded(0):
        reply = await ground.attempt(attack.way, path=ground.filled(attack.how), **ARGUMENTS[attack.way])
    assert SECRET not in reply.text
    ground.assert_intact()


@pytest.mark.parametrize("attack", attacks("patterns", "regex bombs"), ids=lambda attack: attack.kind)
async def test_a_pattern_ends(ground: Ground, attack: Attack) -> None:
    """A pattern that would take for ever, or all memory, is stopped by the clock or refused; never by the runtime."""
    (ground.project / "line.txt").write_text("a" * 30_000 + "!\n")
    with bounded(1):
        try:
            found = ground.files_tree.search(ground.filled(attack.how), "line.txt", deadline_s=0.2)
        except FileRefused:
            return
    assert len(found.lines) <= 2
    assert sum(map(len, found.lines)) < 1_000
