"""`ramet init` writes a project's section; agents of later runs begin with it. Scripted engine, real command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.swarm import Swarm
from tests.support import call, scripted, tiny_chat
from workspace import write_section

pytestmark = pytest.mark.anyio


async def test_agents_begin_with_the_project_s_conventions(tmp_path: Path) -> None:
    """AGENTS.md and the list of skills stand in the system prompt, the same for every agent of the run."""
    write_section(tmp_path, "Ledgers are worth a fork.")
    (tmp_path / ".agents/skills/sums").mkdir(parents=True)
    (tmp_path / ".agents/skills/sums/SKILL.md").write_text("---\nname: sums\ndescription: How to add up\n---\n")
    chat = tiny_chat()
    verbose = type(chat)(chat.tokenizer, chat._renderer, terse=False)
    async with Swarm(scripted(lambda _: call("finish", result="r")), tmp_path, chat=verbose) as swarm:
        await (await swarm.start("t")).result()
        await (await swarm.start("u")).result()
    one, two = (verbose.text(agent.base.tokens) for agent in swarm.state.agents.values())
    system = one.partition("<|im_end|>")[0]
    assert "Ledgers are worth a fork." in system
    assert "- sums: How to add up (.agents/skills/sums/SKILL.md)" in system
    assert two.startswith(system)


async def test_terse_models_are_told_nothing_more(tmp_path: Path) -> None:
    """A model that was trained on one short prompt gets exactly that."""
    write_section(tmp_path, "Ledgers are worth a fork.")
    async with Swarm(scripted(lambda _: call("finish", result="r")), tmp_path) as swarm:
        await (await swarm.start("t")).result()
    assert "worth a fork" not in tiny_chat().text(swarm.state.agents["a1"].base.tokens)
