"""`ramet tree --svg`."""

from pathlib import Path

import anyio
import pytest

from runtime.cli.tree import tree
from runtime.errors import BadInput
from runtime.swarm import Swarm
from tests.support import ledgers, scripted, survey


def test_a_tree_is_drawn_without_loading_anything(tmp_path: Path) -> None:
    """The picture shows agents and answers, names no address, and is refused in one line where it cannot be written."""
    ledgers(tmp_path, [3, 4])

    async def run() -> None:
        async with Swarm(scripted(survey), tmp_path) as swarm:
            await (await swarm.start("add up")).result()

    anyio.run(run)
    assert tree(tmp_path, svg=tmp_path / "tree.svg") == 0
    drawn = (tmp_path / "tree.svg").read_text()
    assert "ledgers/l1.txt" in drawn
    assert "url(" not in drawn.replace("url(#", "")
    with pytest.raises(BadInput, match="--svg: cannot write"):
        tree(tmp_path, svg=tmp_path / "missing" / "tree.svg")
