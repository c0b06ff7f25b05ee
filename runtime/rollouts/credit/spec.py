"""`spec_loo`: what newcomers were told, and what they made of it, apart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from runtime.rollouts.credit.attempts import Attempt, Stake, attempts
from runtime.rollouts.credit.decision import Call, call_of
from runtime.rollouts.credit.flat import centred, mean
from runtime.rollouts.credit.shares import Credit, Span, below, spread
from runtime.rollouts.credit.steps import steps
from runtime.rollouts.schema import Member, Rollout

__all__ = ["spec_loo"]


class _Brief(msgspec.Struct, frozen=True):
    """Told by `giver`, in a call, or in words where no call is recorded, to newcomers with these tasks."""

    attempt: int
    giver: str
    told: Call | str
    tasks: tuple[str, ...]


def spec_loo(group: Sequence[Rollout]) -> list[Credit]:
    """A two-way decomposition of what spawned agents earned, into the brief's part and the child's.

    The children of a brief are the newcomers of one call to spawn (or told the same by the same agent, where no call is
    recorded), and all that came from them and were not briefed anew: a newcomer that forks hands its brief on. With V
    the mean of what the children of a brief earned, w their weights, and b as in `segment`:

        child's advantage   A = R - V                    a bad brief lowers V as it lowers every R: it cancels
        the brief's credit  B = V - mean V of the other briefs for the same tasks; V - b, where there are none
        the call to spawn   (sum of w) B, beside the coefficient of its edge; without a call, the giver's leaves get it
        host forks          A = B: their answers are part of the brief
        all others          A = R - b

    What is taken from the children goes to their brief, so without alternatives the whole is as in `segment`. Where the
    giver is not trained, nobody gets the brief's credit. To tell briefs and children apart there must be several of
    each: a brief's only child gets 0, as nothing says whose doing its reward was.

    Source: RL.md 3, estimator 5; it joins C3 (arXiv 2603.06859: alternatives of one message, leave-one-out) with
    comparing agents within their own kind (Dr.MAS, arXiv 2602.08847).
    """
    found = attempts(group)
    briefs = [_briefs(number, attempt) for number, attempt in enumerate(found)]
    earned: dict[_Brief, dict[str, float]] = defaultdict(dict)  # of each child once, whatever its leaves
    for attempt, of in zip(found, briefs, strict=True):
        for stake in _children(attempt, of):
            earned[of[stake.agent.id]][stake.agent.id] = stake.reward
    values = {brief: mean(list(children.values())) for brief, children in earned.items()}
    roots = [attempt.value for attempt in found if attempt.stakes]
    credit = _credit(values, mean(roots) if roots else 0.0)
    out: list[Credit] = []
    for attempt, of, plains, spans in zip(found, briefs, centred(found), steps(found), strict=True):
        calls, told = _placed(attempt, of, credit)
        advantages: list[float] = []
        for stake, plain in zip(attempt.stakes, plains, strict=True):
            brief = of.get(stake.agent.id)
            if brief is not None and stake.agent.kind == "host":
                advantages.append(credit.get(brief, 0.0))
                continue
            own = plain if brief is None else stake.reward - values[brief]
            advantages.append(math.fsum((own, *told.get(stake.agent.id, ()))))
        out.append(spread(attempt, advantages, spans=[*spans, *calls]))
    return out


def _briefs(number: int, attempt: Attempt) -> dict[str, _Brief]:
    """The brief that each agent works by: its own, or that of the nearest it came from; others have none."""
    rollout = attempt.rollout
    members = {member.id: member for member in rollout.head.members}
    calls = {edge.agent: call_of(edge) for edge in rollout.edges if edge.kind == "spawn"}
    told = {
        member.id: calls.get(member.id) or member.spec
        for member in members.values()
        if member.kind == "spawn" and member.parent is not None
    }
    tasks: dict[tuple[str | None, Call | str], list[str]] = defaultdict(list)
    for newcomer, what in told.items():
        tasks[members[newcomer].parent, what].append(members[newcomer].task)
    out: dict[str, _Brief] = {}
    for member in members.values():
        at: Member | None = member
        seen: set[str] = set()
        while at is not None and not told.get(at.id) and at.id not in seen:
            seen.add(at.id)
            at = members.get(at.parent or "")
        if at is not None and at.parent is not None and (brief := told.get(at.id)):
            out[member.id] = _Brief(number, at.parent, brief, tuple(sorted(tasks[at.parent, brief])))
    return out


def _children(attempt: Attempt, of: dict[str, _Brief]) -> Iterator[Stake]:
    """The leaves of those who work by a brief. A host fork does not: it is part of one."""
    return (stake for stake in attempt.stakes if stake.agent.id in of and stake.agent.kind != "host")


def _credit(values: dict[_Brief, float], baseline: float) -> dict[_Brief, float]:
    alike: dict[tuple[str, ...], list[_Brief]] = defaultdict(list)
    for brief in values:
        alike[brief.tasks].append(brief)
    out: dict[_Brief, float] = {}
    for same in alike.values():
        total, others = math.fsum(values[brief] for brief in same), len(same) - 1
        for brief in same:
            out[brief] = values[brief] - ((total - values[brief]) / others if others else baseline)
    return out


def _placed(
    attempt: Attempt, of: dict[str, _Brief], credit: dict[_Brief, float]
) -> tuple[list[Span], dict[str, list[float]]]:
    """Where the credit of an attempt's briefs goes: spans of calls and, without a call, advantages of givers."""
    masses = below(attempt.rollout.edges, ((stake.edge, stake.weight) for stake in attempt.stakes))
    weights: dict[str, list[float]] = defaultdict(list)
    for stake in attempt.stakes:
        weights[stake.agent.id].append(stake.weight)
    children: dict[_Brief, list[float]] = defaultdict(list)
    for stake in _children(attempt, of):
        children[of[stake.agent.id]].append(stake.weight)
    spans: list[Span] = []
    told: dict[str, list[float]] = defaultdict(list)
    for brief, parts in children.items():
        given = math.fsum(parts) * credit[brief]
        if not isinstance(brief.told, str):
            edge, start, end = brief.told
            if edge in masses:
                spans.append(Span(edge=edge, start=start, end=end, coefficient=given))
        elif brief.giver in weights:
            told[brief.giver].append(given / math.fsum(weights[brief.giver]))
    return spans, told
