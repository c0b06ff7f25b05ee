"""Rollouts: runs as training data. See `schema` for what one is, and `collect` for how they are made.

The names are imported when they are first used: reading a file of rollouts loads no engine. `collect` itself is
imported from its module, `from runtime.rollouts.collect import collect`, which has that name here.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.rollouts.collect import Collector
    from runtime.rollouts.harbor import HarborTests, read_harbor
    from runtime.rollouts.reward import Command, Function, Own, Reward, score
    from runtime.rollouts.rubric import Criterion, Rubric
    from runtime.rollouts.schema import Edge, Leaf, Member, Rollout, Term, Told, read_rollouts, verify, write_rollout
    from runtime.rollouts.tasks import Task, load_tasks, story_task
    from runtime.rollouts.trace import Trace, replay, rollouts_of

__all__ = [
    "Collector",
    "Command",
    "Criterion",
    "Edge",
    "Function",
    "HarborTests",
    "Leaf",
    "Member",
    "Own",
    "Reward",
    "Rollout",
    "Rubric",
    "Task",
    "Term",
    "Told",
    "Trace",
    "load_tasks",
    "read_harbor",
    "read_rollouts",
    "replay",
    "rollouts_of",
    "score",
    "story_task",
    "verify",
    "write_rollout",
]

_HOMES = {
    "runtime.rollouts.collect": ("Collector",),
    "runtime.rollouts.harbor": ("HarborTests", "read_harbor"),
    "runtime.rollouts.reward": ("Command", "Function", "Own", "Reward", "score"),
    "runtime.rollouts.rubric": ("Criterion", "Rubric"),
    "runtime.rollouts.schema": (
        *("Edge", "Leaf", "Member", "Rollout", "Term", "Told"),
        *("read_rollouts", "verify", "write_rollout"),
    ),
    "runtime.rollouts.tasks": ("Task", "load_tasks", "story_task"),
    "runtime.rollouts.trace": ("Trace", "replay", "rollouts_of"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
