"""`ramet rollout`: attempt tasks many times and write down what came of it, as training data."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from msgspec import structs

from runtime.cli._options import (
    BudgetText,
    Constrain,
    LimitText,
    Model,
    Unsandboxed,
    Url,
    read_budget,
    read_limits,
)
from runtime.errors import BadInput

if TYPE_CHECKING:
    from runtime.cli._engine import Opener
    from runtime.rollouts.collect import Collector, Planned
    from runtime.rollouts.midway import Chance
    from runtime.rollouts.schema import Rollout
    from runtime.rollouts.summary import Summary
    from runtime.rollouts.tasks import Task

__all__ = ["rollout"]


def rollout(
    tasks: Annotated[
        str,
        typer.Argument(
            metavar="TASKS",
            help="A JSON lines file, a Harbor task folder or a folder of them, story:NAME[:COUNT[:FILES]], or "
            "module:object.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the rollouts go.")],
    group: Annotated[int, typer.Option("--group", min=1, help="Attempts at each task.")] = 8,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Attempts under way at a time.")] = 8,
    url: Url = None,
    model: Model = None,
    check: Annotated[
        str, typer.Option(metavar="CMD", help="A reward: 1 where this command passes in the directory afterwards.")
    ] = "",
    budget: BudgetText = "",
    limit: LimitText = "",
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 makes all attempts alike.")] = 1.0,
    turn_tokens: Annotated[
        int | None,
        typer.Option("--turn-tokens", min=16, show_default="2048", help="The most tokens one turn may sample."),
    ] = None,
    constrain: Constrain = False,
    unsandboxed: Unsandboxed = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="PATTERN", help="Agents not trained: id, role or kind."),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="All tasks one after the other in one directory; then shuffled.")
    ] = False,
    partial_inputs: Annotated[
        bool,
        typer.Option(
            "--partial", help="Also with the question only, without tools, with the last sentence only: does it leak?"
        ),
    ] = False,
    replays: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Go on N times without it from each decision to fork, for its credit."),
    ] = 0,
    revive: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="TOKENS",
            help="Revive dead groups: go on from points where some succeeded, sampling so many.",
        ),
    ] = 0,
    without_image: Annotated[
        bool,
        typer.Option(
            "--without-image",
            help="Take Harbor tasks that need what is not here too: without its image, network or GPU.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of stories, shuffling and sampling.")] = 0,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="D", help="Keep the attempts' directories, below D.")
    ] = None,
) -> int:
    """Attempt each task several times, grade the attempts, and write one rollout for each.

    The last line of the output is a JSON object: rollouts, failed ones, mean rewards, dead groups, tokens; tasks that
    leak; what was gone on from and what could not be. Such attempts come after all others in the file, and their
    directories are below replays and revived. Tasks and rewards that cannot be used are named on standard error, and
    the rest goes on. --budget, --limit and --turn-tokens, where they are given, take the place of what tasks say of
    that. Exits with 0, with 1 where every attempt failed, with 2 for bad input.
    """
    for name, value in (("--replays", replays), ("--revive", revive), ("--partial", partial_inputs)):
        if value and sequential:
            raise BadInput(name, "not with --sequential, where an attempt begins in files that earlier ones left")
    allowance, limits = read_budget(budget), read_limits(limit)
    target = _read_out(out)
    from runtime.cli._main import say
    from runtime.rollouts.tasks import load_tasks

    found, problems = load_tasks(tasks, seed=seed, without_image=without_image)
    if not found:
        raise BadInput("TASKS", "; ".join(problems))
    from runtime.cli._engine import choose

    engine = choose(url, model)
    for problem in problems:
        say(problem)
    if ignored := sorted({name for task in found for name in task.info.get("not_applied", "").split(", ") if name}):
        say(f"TASKS: what is not applied here: {', '.join(ignored)}")
    from runtime.cli._logs import to_stderr
    from runtime.cli._signals import run_until_signal
    from runtime.records import Settings
    from runtime.rollouts.collect import collect
    from runtime.rollouts.reward import Command

    to_stderr()
    settings = Settings(temperature=temperature, constrain=constrain, unsandboxed=unsandboxed, seed=seed)
    typed = {"budget": allowance if budget else None, "limits": limits if limit else None, "turn_tokens": turn_tokens}
    own = {name: value for name, value in typed.items() if value is not None}
    found = [structs.replace(task, settings={**task.settings, **own}) for task in found]
    collecting = partial(
        collect,
        rewards=[Command("check", check, unsandboxed=unsandboxed)] if check else [],
        at_once=at_once,
        settings=settings,
        seed=seed,
        frozen=tuple(freeze or ()),
    )
    plan = _Plan(
        found,
        group=group,
        sequential=sequential,
        partial_inputs=partial_inputs,
        replays=replays,
        revive=revive,
        keep=keep,
    )
    figures = run_until_signal(partial(_collected, engine, collecting, plan, target))
    print(json.dumps({**figures, "refused_tasks": len(problems), "file": str(out)}), flush=True)
    return 1 if figures["failed"] == figures["rollouts"] else 0


def _read_out(path: Path) -> Path:
    if path.exists():
        raise BadInput("--out", f"{path} is there already; rollouts are never written over others")
    if not path.absolute().parent.is_dir():
        raise BadInput("--out", f"no such directory: {path.parent}")
    return path


@dataclass(frozen=True)
class _Plan:
    """What is attempted, and how often; `revive` is in tokens."""

    tasks: Sequence[Task]
    group: int
    sequential: bool
    partial_inputs: bool
    replays: int
    revive: int
    keep: Path | None

    def below(self, name: str) -> Path | None:
        """Where directories of attempts that go on from others are kept."""
        return None if self.keep is None else self.keep / name


async def _collected(
    opener: Opener, collecting: Callable[..., AbstractAsyncContextManager[Collector]], plan: _Plan, path: Path
) -> dict[str, object]:
    """Collect into a file, and then what goes on from the attempts that are in it."""
    from runtime.cli._engine import reporting
    from runtime.rollouts.midway import chances, replays, revivals
    from runtime.rollouts.summary import Summary

    summary, by_id = Summary(), {task.id: task for task in plan.tasks}
    order = {name: number for number, name in enumerate(by_id)}
    again: list[Task] = []
    hopes: list[Chance] = []

    def complete(group: list[Rollout]) -> None:
        summary.add_group(group)
        if plan.replays:
            tasks, left = replays(by_id, group, plan.replays)
            again.extend(tasks)
            summary.leave("replays", left)
        if plan.revive:
            found, left = chances(by_id, group)
            hopes.extend(found)
            summary.leave("revived", left)

    report, told = reporting()
    async with opener(report) as engine:
        told()
        with path.open("xb") as file:
            first = collecting(
                plan.tasks,
                group=plan.group,
                sequential=plan.sequential,
                partial=plan.partial_inputs,
                directory=plan.keep,
                engine=engine,
            )
            await _written(first, file, summary, complete)
            again.sort(key=lambda task: order[task.id])  # groups come as they are complete
            if again:
                more = collecting(again, group=plan.replays, directory=plan.below("replays"), engine=engine)
                await _written(more, file, summary)
            revived, left = revivals(hopes, budget_tokens=plan.revive, copies=plan.group)
            if left:
                summary.leave("revived", left)
            if revived:
                more = collecting(
                    revived,
                    group=plan.group,
                    sampled_tokens=plan.revive,
                    directory=plan.below("revived"),
                    engine=engine,
                )
                await _written(more, file, summary)
    return summary.figures()


async def _written(
    collecting: AbstractAsyncContextManager[Collector],
    file: BinaryIO,
    summary: Summary,
    complete: Callable[[list[Rollout]], None] | None = None,
) -> None:
    """Write a collection in the order of its plan, whichever attempt ends first; `complete` gets each whole group.

    What has come is written, whatever ends it.
    """
    from runtime.rollouts.collect import planned
    from runtime.rollouts.schema import write_rollout

    async with collecting as collected:
        plan = deque(collected.plan)
        left = Counter(group for _, group, _ in plan)  # attempts of each group that have not come yet
        groups: defaultdict[str, list[Rollout]] = defaultdict(list)
        waiting: dict[Planned, Rollout] = {}
        try:
            async for rollout in collected:
                waiting[planned(rollout)] = rollout
                while plan and plan[0] in waiting:
                    write_rollout(file, waiting.pop(plan.popleft()))
                file.flush()
                summary.add(rollout)
                name = rollout.head.group
                groups[name].append(rollout)
                left[name] -= 1
                if not left[name]:
                    whole = groups.pop(name)
                    if complete is not None:
                        complete(whole)
        finally:
            for key in plan:
                if key in waiting:
                    write_rollout(file, waiting[key])
