"""The status line that ends every message to an agent, and the sentence that makes a copy know what it is."""

from __future__ import annotations

from agents.host import Agent

__all__ = ["copy_text", "status_line"]


def status_line(agent_id: str, turn: int, used_tokens: int, context_tokens: int, budget: float) -> str:
    """`[a3 t12 | context 5120/32768 | budget 81%]`: id, checkpoint, tokens so far, share of the budget left."""
    return f"[{agent_id} t{turn} | context {used_tokens}/{context_tokens} | budget {budget:.0%}]"


def copy_text(copy: int, copies: int, task: str) -> str:
    """What a copy is told first. Siblings' texts differ as late as they can."""
    return f"You are copy {copy} of {copies}. Your task: {task}"


def result_line(agent: Agent) -> str:
    """What a parent is told of one child that ended."""
    said = agent.result or "(no result)"
    return f"{agent.id}: {said}" if agent.outcome == "finished" else f"{agent.id} {agent.outcome}: {said}"
