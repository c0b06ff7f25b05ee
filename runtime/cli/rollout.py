"""`ramet rollout`: attempt tasks many times and write down what came of it, as training data."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli._options import Model, Url, read_budget
from runtime.errors import BadInput

if TYPE_CHECKING:
    from runtime.cli._engine import Opener
    from runtime.rollouts.collect import Collector, Planned
    from runtime.rollouts.schema import Rollout

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
    budget: Annotated[str, typer.Option(help="Limits of each attempt, as for run.")] = "",
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 makes all attempts alike.")] = 1.0,
    turn_tokens: Annotated[int, typer.Option(min=16, help="The most tokens one turn may sample.")] = 2048,
    constrain: Annotated[bool, typer.Option("--constrain", help="Let turns be well-formed tool calls only.")] = False,
    unsandboxed: Annotated[
        bool, typer.Option("--unsandboxed", help="Run shell commands without a sandbox where none can be had.")
    ] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="PATTERN", help="Agents not trained: id, role or kind."),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="All tasks one after the other in one directory; then shuffled.")
    ] = False,
    without_image: Annotated[
        bool, typer.Option("--without-image", help="Take Harbor tasks that are made for a container image, without it.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of stories, shuffling and sampling.")] = 0,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="D", help="Keep the attempts' directories, below D.")
    ] = None,
) -> int:
    """Attempt each task several times, grade the attempts, and write one rollout for each.

    The last line of the output is a JSON object: rollouts, failed ones, mean rewards, dead groups, tokens. Tasks and
    rewards that cannot be used are named on standard error, and the rest goes on. Exits with 0, with 1 where every
    attempt failed, with 2 for bad input.
    """
    limits = read_budget(budget)
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
    from runtime.cli._logs import to_stderr
    from runtime.cli._signals import run_until_signal
    from runtime.records import Settings
    from runtime.rollouts.collect import collect
    from runtime.rollouts.reward import Command

    to_stderr()
    settings = Settings(
        temperature=temperature,
        turn_tokens=turn_tokens,
        constrain=constrain,
        unsandboxed=unsandboxed,
        budget=limits,
        seed=seed,
    )
    collecting = partial(
        collect,
        found,
        [Command("check", check, unsandboxed=unsandboxed)] if check else [],
        group=group,
        at_once=at_once,
        settings=settings,
        sequential=sequential,
        seed=seed,
        frozen=tuple(freeze or ()),
        directory=keep,
    )
    figures = run_until_signal(partial(_collected, engine, collecting, target))
    print(json.dumps({**figures, "refused_tasks": len(problems), "file": str(out)}), flush=True)
    return 1 if figures["failed"] == figures["rollouts"] else 0


def _read_out(path: Path) -> Path:
    if path.exists():
        raise BadInput("--out", f"{path} is there already; rollouts are never written over others")
    if not path.absolute().parent.is_dir():
        raise BadInput("--out", f"no such directory: {path.parent}")
    return path


async def _collected(
    opener: Opener, collecting: Callable[..., AbstractAsyncContextManager[Collector]], path: Path
) -> dict[str, object]:
    """Collect into a file, in the order of the plan, whichever attempt ends first. What has come is written, whatever
    ends it."""
    from runtime.cli._main import say
    from runtime.rollouts.collect import planned
    from runtime.rollouts.schema import write_rollout
    from runtime.rollouts.summary import Summary

    summary = Summary()
    async with opener(say) as engine, collecting(engine=engine) as collected:
        plan = deque(collected.plan)
        left = Counter(group for _, group, _ in plan)  # attempts of each group that have not come yet
        groups: defaultdict[str, list[Rollout]] = defaultdict(list)
        waiting: dict[Planned, Rollout] = {}
        with path.open("xb") as file:
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
                        summary.add_group(groups.pop(name))
            finally:
                for key in plan:
                    if key in waiting:
                        write_rollout(file, waiting[key])
    return summary.figures()
