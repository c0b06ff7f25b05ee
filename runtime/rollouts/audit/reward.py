"""What a rollout's terms say, and what an audit may do to them: drop the rollout, or take the reward away.

Owns the sum of an agent's terms. Pure: each function returns another rollout. Knows no detector.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from msgspec import structs

from runtime.rollouts.audit.finding import Row, Severity
from runtime.rollouts.schema import Head, Rollout, Term

__all__ = ["AUDIT", "drop", "rewards_of", "root_of", "scored", "zero"]

AUDIT = "audit"  # the name of the terms that an audit adds


def root_of(head: Head) -> str:
    """The agent that everything came from."""
    return next((member.id for member in head.members if member.parent is None), "")


def rewards_of(head: Head, agent: str) -> dict[tuple[int, int] | None, float]:
    """What an agent is rewarded with: for each step that has terms, and for the outcome (None).

    Its own terms, and the shared ones of itself and of those that it came from.
    """
    parents = {member.id: member.parent for member in head.members}
    above, at = {agent}, parents.get(agent)
    while at is not None and at not in above:
        above.add(at)
        at = parents.get(at)
    out: dict[tuple[int, int] | None, float] = defaultdict(float)
    for term in head.terms:
        if term.score is not None and (term.agent == agent or (term.shared and term.agent in above)):
            out[term.step] += term.weight * term.score
    return dict(out)


def scored(head: Head) -> float | None:
    """The outcome of the whole rollout as a share of what its weights allow; None where nothing was scored."""
    root = root_of(head)
    terms = [one for one in head.terms if one.agent == root and one.step is None and one.name != AUDIT]
    known = [(one.weight, one.score) for one in terms if one.score is not None]
    most = sum(weight for weight, _ in known if weight > 0)
    return sum(weight * score for weight, score in known) / most if most > 0 else None


def drop(rollout: Rollout, rows: Sequence[Row], *, least: Severity = Severity.MEDIUM) -> Rollout:
    """The rollout, not to be trained on if a row of at least that severity is about it."""
    grave = _grave(rollout, rows, least)
    if not grave:
        return rollout
    why = f"audit: {'; '.join(sorted({f'{row.class_} by {row.agent}' for row in grave}))}"
    dropped = f"{rollout.head.dropped}; {why}" if rollout.head.dropped else why
    return structs.replace(rollout, head=structs.replace(rollout.head, dropped=dropped))


def zero(rollout: Rollout, rows: Sequence[Row], *, least: Severity = Severity.MEDIUM) -> Rollout:
    """The rollout, with terms that bring the reward of every tainted agent to nothing, for its outcome and each step.

    Tainted is an agent with a leaf below tainted tokens, or with tainted tokens of its own. Doing it twice changes
    nothing: what is nothing already needs no term.
    """
    head = rollout.head
    terms: list[Term] = []
    for agent, row in sorted(_tainted_agents(rollout, _grave(rollout, rows, least)).items()):
        for step, reward in sorted(rewards_of(head, agent).items(), key=lambda item: item[0] or (-1, -1)):
            if reward:
                quote = f"{row.class_}: {row.quote}"
                terms.append(Term(name=AUDIT, agent=agent, score=-reward, step=step, quote=quote))
    return structs.replace(rollout, head=structs.replace(head, terms=(*head.terms, *terms))) if terms else rollout


def _grave(rollout: Rollout, rows: Sequence[Row], least: Severity) -> list[Row]:
    return sorted(row for row in rows if row.rollout == rollout.head.id and Severity[row.severity.upper()] >= least)


def _tainted_agents(rollout: Rollout, rows: Sequence[Row]) -> dict[str, Row]:
    """Each with the first row that taints it."""
    out: dict[str, Row] = {}
    for row in rows:
        tainted = set(row.taints)
        agents = {edge.agent for edge in rollout.edges if edge.id in tainted}
        agents |= {leaf.agent for leaf in rollout.head.leaves if leaf.edge in tainted}
        for agent in agents:
            out.setdefault(agent, row)
    return out
