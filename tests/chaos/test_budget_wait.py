"""What others have set aside is not spent: whoever finds nothing left of a budget waits for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.host import Outcome
from runtime.budget import Budget
from runtime.records import Settings
from runtime.swarm import Swarm
from tests.support import call, scripted

pytestmark = pytest.mark.anyio


async def test_many_agents_on_a_small_budget(tmp_path: Path) -> None:
    """Thirty agents may each set aside a third of the budget, and all of them finish: together they spend little."""
    settings = Settings(turn_tokens=1_000, budget=Budget(sampled_tokens=3_000))
    async with Swarm(scripted(lambda _: call("finish", result="x")), tmp_path, settings=settings) as swarm:
        leads = [await swarm.start(f"task {number}") for number in range(30)]
        outcomes = {(await lead.result()).outcome for lead in leads}
    assert outcomes == {Outcome.FINISHED}
    assert swarm.state.account.reserved == 0
    assert swarm.state.account.sampled_tokens <= 3_000


async def test_a_budget_that_is_spent_is_over(tmp_path: Path) -> None:
    """Those who waited for it are told when it is used up."""
    settings = Settings(turn_tokens=400, budget=Budget(sampled_tokens=500))
    async with Swarm(scripted(lambda _: call("list_files")), tmp_path, settings=settings) as swarm:
        leads = [await swarm.start(f"task {number}") for number in range(5)]
        outcomes = {(await lead.result()).outcome for lead in leads}
    assert outcomes == {Outcome.OUT_OF_BUDGET}
    assert swarm.state.account.sampled_tokens <= 500
