"""Counting a run: what it sampled, what the engine computed, and how near that is to the least possible.

Pure functions of the state. The least an engine can compute of a tree's prompts is each given token once, and one
token for every turn that was continued (the last sampled token never has KV of its own): `recompute_ratio` is what it
did compute over that. Copies whose first words happen to be alike can push it a little below 1.
"""

from __future__ import annotations

import msgspec

from agents.context import Origin
from runtime.state import RunState

__all__ = ["Stats", "count"]


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The bill of a run. Tokens, except the first six; `seconds` of wall time that the run was alive."""

    agents: int
    turns: int
    forks: int
    spawns: int
    rewinds: int
    successions: int
    sampled_tokens: int
    prompt_tokens: int
    cached_tokens: int
    computed_tokens: int
    unique_tokens: int
    unique_prompt_tokens: int
    recompute_ratio: float
    short_tokens: int
    seconds: float
    outcome: str | None


def count(state: RunState) -> Stats:
    """The bill of the run so far."""
    agents = state.agents.values()
    unique = least = 0
    continued = set()
    for segment in state.segments.values():
        unique += len(segment.tokens)
        if segment.parent is not None and segment.parent.origin is Origin.SAMPLED:
            continued.add(segment.parent.id)
        if segment.origin is Origin.SAMPLED and segment.parent is not None:
            continued.add(segment.parent.id)  # a given segment was a prompt only if a turn followed it
    for number in continued:
        segment = state.segments[number]
        least += 1 if segment.origin is Origin.SAMPLED else len(segment.tokens)
    prompt = sum(a.prompt_tokens for a in agents)
    cached = sum(a.cached_tokens for a in agents)
    return Stats(
        agents=len(state.agents),
        turns=sum(a.turns for a in agents),
        forks=state.forks,
        spawns=state.spawns,
        rewinds=state.rewinds,
        successions=state.successions,
        sampled_tokens=sum(a.sampled_tokens for a in agents),
        prompt_tokens=prompt,
        cached_tokens=cached,
        computed_tokens=prompt - cached,
        unique_tokens=unique,
        unique_prompt_tokens=least,
        recompute_ratio=round((prompt - cached) / least, 4) if least else 1.0,
        short_tokens=state.short_tokens,
        seconds=round(state.active_s, 3),
        outcome=state.outcome,
    )
