"""The middle of an attempt, from which others can go on: which middles there are, and which are worth it.

Owns the form of one (`Midway`, the first turns of a root, as a task carries them) and two plans of attempts that go on:
*replays* of a decision to fork or to spawn, without it, for `credit.decision`; and *revivals*, from the point of a dead
group at which success was nearest one half. Invariant: whatever is not planned is named, with the reason.

Supported is the root's own first path, as far as nobody else had been started on it: turns are given back to the root
alone. So not what a descendant did, nor what came after a rewind, a succession, or the return of copies made earlier;
nor attempts in a sequence, which began in other files, or with agents that nobody's turn made (a simulated user).

Pure: it runs nothing. `replay` gives the turns back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec

from runtime.rollouts.credit import attempts, replaying
from runtime.rollouts.credit.decision import Call, call_of
from runtime.rollouts.groups import ForkPoint, Level, examine, fork_again
from runtime.rollouts.schema import Edge, Rollout
from runtime.rollouts.tasks import ORDER, Midway, Piece, Task

__all__ = ["REVIVES", "Chance", "Left", "NotReached", "chances", "decisions", "midway", "replays", "revivals"]

# A key of `Head.info`: this one went on from a point of another, `rollout:edge`.
REVIVES = "revives"


class NotReached(ValueError):
    """A point of a rollout from which nothing can go on; says why."""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A point from which nothing goes on, `rollout:edge`, and why."""

    point: str
    why: str


class Chance(msgspec.Struct, frozen=True, kw_only=True):
    """A point of a dead group, `tokens` what one attempt from there sampled, and the task that goes on from it."""

    point: ForkPoint
    task: Task


def midway(rollout: Rollout, edge: int, end: int | None = None, *, alone: bool = False, first: int = 0) -> Midway:
    """The root's turns up to the end of an edge, or of its first `end` tokens. Raises NotReached.

    `alone`: whoever goes on from here may start nobody. `first`: the number of the first attempt that does.
    """
    if ORDER in rollout.head.info:
        raise NotReached("the attempt began in files that earlier tasks had left")
    path = rollout.path(edge)
    starts = [0, *accumulate(len(one.tokens) for one in path)]
    stop = starts[-1] if end is None else starts[-2] + end
    _reachable(rollout, path, starts, stop)
    return Midway(
        rollout=rollout.head.id,
        tokens=tuple(token for one in path for token in one.tokens)[:stop],
        pieces=tuple(piece for one, start in zip(path, starts, strict=False) for piece in _pieces(one, start, stop)),
        alone=alone,
        first=first,
    )


def _reachable(rollout: Rollout, path: Sequence[Edge], starts: Sequence[int], stop: int) -> None:
    root = rollout.head.members[0].id
    for one in path:
        if one.agent != root:
            raise NotReached(f"it is a turn of {one.agent}, and only the root's turns are given back")
        if one.kind not in ("root", "continued"):
            raise NotReached(f"it comes after a {one.kind}")
    offset = dict(zip((one.id for one in path), starts, strict=False))
    for one in rollout.edges:
        if one.agent == root or one.kind not in ("fork", "spawn", "host", "review"):
            continue
        call = call_of(one)
        if call is None:
            raise NotReached(f"{one.agent} was made from outside")
        at, _, end = call
        if at in offset and offset[at] + end < stop:
            raise NotReached(f"{one.agent} was at work before, and only the root's turns are given back")


def _pieces(edge: Edge, start: int, stop: int) -> Iterator[Piece]:
    """An edge's turns before `stop`, cut where the weights changed within one: all pieces but the last were aborted."""
    for turn in edge.turns:
        if start + turn.end > stop:
            return
        spans = [
            (max(one.start, turn.start), min(one.end, turn.end), one.version)
            for one in edge.versions
            if one.start < turn.end and one.end > turn.start
        ]
        for begins, ends, version in spans or [(turn.start, turn.end, "")]:
            head = begins == turn.start
            yield Piece(
                start=start + begins,
                logprobs=tuple(lp or 0.0 for lp in edge.logprobs[begins:ends]),
                finish=turn.finish if ends == turn.end else "abort",
                version=version,
                cached=turn.cached if head else start + begins - 1,
            )


def decisions(rollout: Rollout) -> list[Call]:
    """The calls of trained agents that started others, each once: the edge, and the span of its tokens there."""
    owners = {edge.id: edge.agent for edge in rollout.edges}
    trained = {member.id for member in rollout.head.members if member.trainable}
    made = (call_of(edge) for edge in rollout.edges if edge.kind in ("fork", "spawn"))
    return sorted({call for call in made if call is not None and owners[call[0]] in trained})


def replays(tasks: Mapping[str, Task], group: Sequence[Rollout], count: int) -> tuple[list[Task], list[Left]]:
    """Tasks of the same group, each to be attempted `count` times: to go on from a decision, which is refused.

    `tasks` are those of the collection by id. Attempts that take no part, and replays, are not replayed.
    """
    made: list[Task] = []
    left: list[Left] = []
    number = 1 + max((rollout.head.attempt for rollout in group), default=-1)
    taking = [one.rollout for one in attempts(group) if not one.out]
    for rollout in sorted(taking, key=lambda one: one.head.attempt):
        for edge, start, end in decisions(rollout):
            try:
                after = midway(rollout, edge, end, alone=True, first=number)
            except NotReached as reason:
                left.append(Left(point=f"{rollout.head.id}:{edge}", why=str(reason)))
                continue
            made.append(_onward(tasks, rollout, after, rollout.head.group, replaying(rollout.head.id, edge, start)))
            number += count
    return made, left


def chances(tasks: Mapping[str, Task], group: Sequence[Rollout]) -> tuple[list[Chance], list[Left]]:
    """How a group whose attempts all earned the same could be revived: its best point that can be gone on from.

    A group that is alive has none, and nothing is left of it; of a dead one without any, that is left, by its name.
    """
    report = examine(group)
    if all(dead.level is not Level.TASK for dead in report.dead):
        return [], []
    left: list[Left] = []
    by_id = {rollout.head.id: rollout for rollout in group}
    for point in report.forks:
        rollout, where = by_id[point.rollout], f"{point.rollout}:{point.edge}"
        try:
            after = midway(rollout, point.edge)
        except NotReached as reason:
            left.append(Left(point=where, why=str(reason)))
            continue
        sampled = sum(sum(edge.sampled) for edge in rollout.edges)
        cost = sampled - sum(len(piece.logprobs) for piece in after.pieces)
        task = _onward(tasks, rollout, after, f"{rollout.head.group}@{where}", {REVIVES: where})
        return [Chance(point=msgspec.structs.replace(point, tokens=cost), task=task)], left
    return [], [*left, Left(point=report.group, why="there is no point after which only some succeeded")]


def revivals(found: Iterable[Chance], *, budget_tokens: int, copies: int) -> tuple[list[Task], list[Left]]:
    """The tasks that the budget pays for, each to be attempted `copies` times; a group of its own each.

    Their attempts began alike with one another and not with the others. By `segment` what was given back gets nothing
    in sum: the trunk is in all of them, and their advantages add up to 0.
    """
    tasks = {(one.point.rollout, one.point.edge): one.task for one in found}
    points = [one.point for one in found]
    plan, over = fork_again(points, budget_tokens=budget_tokens, copies=copies, least=copies)
    left = [
        Left(
            point=f"{point.rollout}:{point.edge}",
            why=f"{copies} attempts of about {point.tokens} tokens are more than the budget has",
        )
        for point in over
    ]
    return [tasks[one.point.rollout, one.point.edge] for one in plan], left


def _onward(tasks: Mapping[str, Task], rollout: Rollout, after: Midway, group: str, info: dict[str, str]) -> Task:
    task = tasks[rollout.head.task]
    return msgspec.structs.replace(task, group=group, info={**task.info, **info}, after=after)
