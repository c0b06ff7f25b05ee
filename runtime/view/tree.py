"""The tree of a run's agents as rows: which are shown, and what of each. Pure.

Owns the choice of rows for a height. Invariants: every agent that lives has a row, whatever the height; an agent
without a row is counted in exactly one row's `folded`; parents come before children, siblings in order of birth.
Does not know colours, widths or the terminal, and makes nothing harmless: that is done where text is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from agents.host import Agent, Outcome
from agents.told import named, rejected_text
from runtime.state import RunState
from runtime.view.times import Times

__all__ = ["Row", "nested", "rows"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One agent, or (`agent` is empty) a number of siblings that ended. Tokens, seconds; `cached` is a share."""

    branch: str  # the lines of the tree, drawn to the left of it
    trunk: str  # the same for further lines that belong to this row
    agent: str = ""
    task: str = ""
    state: str = ""
    outcome: Outcome | None = None
    turns: int = 0
    context_tokens: int = 0
    cached: float | None = None
    sampled_tokens: int = 0
    elapsed_s: float = 0.0
    result: str = ""
    why: str = ""  # that result was rejected
    folded: int = 0  # agents below (or, of siblings, in) this row that have none of their own


def rows(state: RunState, times: Times, now: float, height: int | None = None) -> list[Row]:
    """The rows of a run at `now`, folded as far as `height` rows ask for it; the living are never folded."""
    living, below = _count(state)
    out: list[Row] = []
    for fold in (0, 1, 2):
        out = list(_Walk(state, times, now, living, below, fold).rows())
        if height is None or len(out) <= height:
            break
    return out


def nested(state: RunState, times: Times) -> dict[str, object]:
    """The whole tree for programs: an object for the run, its `agents` nested by `children`."""
    now = state.last_at
    made: dict[str, dict[str, object]] = {}
    roots = []
    for agent in state.agents.values():
        row = _row(agent, times, now, "", "", 0)
        children: list[object] = []
        one: dict[str, object] = {
            "agent": agent.id,
            "name": agent.name,
            "description": agent.description,
            "task": agent.task,
            "outcome": agent.outcome,
            "activity": agent.activity,
            "result": agent.result,
            "why": row.why,
            "turns": agent.turns,
            "rewinds": agent.rewinds,
            "successions": agent.successions,
            "context_tokens": row.context_tokens,
            "prompt_tokens": agent.prompt_tokens,
            "cached_tokens": agent.cached_tokens,
            "sampled_tokens": agent.sampled_tokens,
            "seconds": round(row.elapsed_s, 3),
            "children": children,
        }
        made[agent.id] = one
        if agent.parent is None:
            roots.append(one)
        else:
            siblings = made[agent.parent]["children"]
            assert isinstance(siblings, list)
            siblings.append(one)
    trouble = None if state.outage is None else {"since": state.outage.at, "reason": state.outage.reason}
    return {
        "run": state.run,
        "outcome": state.outcome,
        "result": state.result,
        "engine_trouble": trouble,
        "agents": roots,
    }


def _count(state: RunState) -> tuple[dict[str, int], dict[str, int]]:
    """For each agent, how many of itself and those below it live, and how many there are below it."""
    living, below = dict.fromkeys(state.agents, 0), dict.fromkeys(state.agents, 0)
    for agent in reversed(state.agents.values()):  # children are born after their parents
        living[agent.id] += agent.outcome is None
        if agent.parent is not None:
            living[agent.parent] += living[agent.id]
            below[agent.parent] += below[agent.id] + 1
    return living, below


class _Walk:
    """One way through the tree. `fold` 0: everything; 1: nothing below what ended; 2: siblings that ended as one."""

    def __init__(
        self,
        state: RunState,
        times: Times,
        now: float,
        living: dict[str, int],
        below: dict[str, int],
        fold: int,
    ) -> None:
        self.state, self.times, self.now = state, times, now
        self.living, self.below, self.fold = living, below, fold

    def rows(self) -> Iterator[Row]:
        # A stack and no recursion: a chain of forks may be deeper than Python's own stack.
        roots = [agent.id for agent in self.state.agents.values() if agent.parent is None]
        todo = [(name, "", "") for name in reversed(roots)]
        while todo:
            name, branch, trunk = todo.pop()
            agent = self.state.agents[name]
            shown, folded = self._children(agent)
            under = trunk + ("│  " if shown or folded else "   ")
            hidden = self.below[name] if self.fold and not self.living[name] else 0
            yield _row(agent, self.times, self.now, branch, under, hidden)
            if folded:
                yield self._siblings(folded, trunk, last=not shown)
            for place, child in enumerate(reversed(shown)):
                corner, line = ("└─ ", "   ") if place == 0 else ("├─ ", "│  ")
                todo.append((child, trunk + corner, trunk + line))

    def _children(self, agent: Agent) -> tuple[list[str], list[str]]:
        """The children that get rows, and those that are counted in one."""
        if self.fold and not self.living[agent.id]:
            return [], []
        if self.fold < 2:
            return agent.children, []
        ended = [child for child in agent.children if not self.living[child]]
        if len(ended) < 2:
            return agent.children, []
        return [child for child in agent.children if self.living[child]], ended

    def _siblings(self, names: list[str], trunk: str, *, last: bool) -> Row:
        agents = [self.state.agents[name] for name in names]
        outcomes = Counter(str(agent.outcome) for agent in agents)
        prompt = sum(agent.prompt_tokens for agent in agents)
        cached = sum(agent.cached_tokens for agent in agents)
        return Row(
            branch=trunk + ("└─ " if last else "├─ "),
            trunk=trunk,
            task=", ".join(f"{number} {outcome}" for outcome, number in outcomes.items()),
            turns=sum(agent.turns for agent in agents),
            cached=cached / prompt if prompt else None,
            sampled_tokens=sum(agent.sampled_tokens for agent in agents),
            folded=len(names) + sum(self.below[name] for name in names),
        )


def _row(agent: Agent, times: Times, now: float, branch: str, trunk: str, folded: int) -> Row:
    return Row(
        branch=branch,
        trunk=trunk,
        agent=named(agent.id, agent.name),
        task=agent.task,
        state=agent.outcome or agent.activity or "open",
        outcome=agent.outcome,
        turns=agent.turns,
        context_tokens=agent.head.length,
        cached=agent.cached_tokens / agent.prompt_tokens if agent.prompt_tokens else None,
        sampled_tokens=agent.sampled_tokens,
        elapsed_s=times.elapsed_s(agent.id, now),
        result=agent.result,
        why=rejected_text(agent) if agent.outcome is Outcome.REJECTED else "",
        folded=folded,
    )
