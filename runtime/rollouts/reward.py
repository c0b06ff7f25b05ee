"""Rewards: named terms of what an attempt was worth.

Owns the kinds of terms and how they are computed. A reward gives one number, several by name, or `Term`s of its own,
which may be of one agent (`shared` false), of an agent and all that came from it, of the root and so of everybody, and
of one step. Invariants: a reward that raises, or comes to no finite number, is a term without a score that says why,
with one warning, and the others go on; what a term is of exists in the rollout. Knows no credit.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio.to_thread
import structlog
from msgspec import structs

from runtime.recorder import records
from runtime.records import Opened
from runtime.rollouts.schema import Member, Rollout, Term
from workspace import RAMET, CommandRefused, Mount, RunLayout, Sandbox, noted_system

__all__ = ["Command", "Function", "Own", "Reward", "Scores", "as_reward", "sandbox_of", "score"]

_log = structlog.get_logger(__name__)

Scores = float | Mapping[str, float] | Sequence[Term]
"""What a reward may come to: of the root and shared where it is not Terms."""

COMMAND_S = 600.0
SHOWN_CHARS = 200  # of a command's output, in a term's error


class Reward(Protocol):
    """Computes terms of an attempt that is over, from its rollout and the directory as the attempt left it."""

    @property
    def name(self) -> str: ...
    async def terms(self, rollout: Rollout, directory: Path) -> Sequence[Term]:
        """The terms; none are worth 0, where any attempt of the group has some. May raise anything: see `score`."""
        ...


@dataclass(frozen=True)
class Function:
    """A plain function (run in a thread, so it may read files) or an async one, `(rollout, directory) -> Scores`."""

    name: str
    call: Callable[[Rollout, Path], Scores | Awaitable[Scores]]
    weight: float = 1.0

    async def terms(self, rollout: Rollout, directory: Path) -> Sequence[Term]:
        """See Reward. A mapping's terms are named `name.key`."""
        if inspect.iscoroutinefunction(self.call):
            scores = await self.call(rollout, directory)
        else:
            scores = await anyio.to_thread.run_sync(partial(self.call, rollout, directory))
        if isinstance(scores, Mapping):
            return [_shared(rollout, f"{self.name}.{key}", value, self.weight) for key, value in scores.items()]
        if isinstance(scores, int | float):
            return [_shared(rollout, self.name, scores, self.weight)]
        return [structs.replace(term, weight=term.weight * self.weight) for term in scores]


@dataclass(frozen=True)
class Own:
    """A term of each agent alone: `call(member, rollout)`; None for those it is not about."""

    name: str
    call: Callable[[Member, Rollout], float | None]
    weight: float = 1.0

    async def terms(self, rollout: Rollout, directory: Path) -> Sequence[Term]:
        """See Reward."""
        scores = [(member.id, self.call(member, rollout)) for member in rollout.head.members]
        return [
            Term(name=self.name, agent=agent, score=float(score), weight=self.weight)
            for agent, score in scores
            if score is not None
        ]


@dataclass(frozen=True)
class Command:
    """A shell command, run in the sandbox in the directory: 1 where it exits with 0, else 0; or, with `printed`, the
    number on its last line."""

    name: str
    command: str
    weight: float = 1.0
    printed: bool = False
    timeout_s: float = COMMAND_S
    unsandboxed: bool = False

    async def terms(self, rollout: Rollout, directory: Path) -> Sequence[Term]:
        """See Reward. Raises CommandRefused, TimeoutError, or ValueError where no number was printed."""
        make = partial(sandbox_of, rollout, directory, unsandboxed=self.unsandboxed)
        sandbox = await anyio.to_thread.run_sync(make)
        output = directory / RAMET / "reward" / f"{self.name}.txt"
        done = await sandbox.run(self.command, timeout_s=self.timeout_s, output_path=output)
        if done.timed_out:
            raise TimeoutError(f"`{self.command}` did not end in {self.timeout_s:g} s")
        if not self.printed:
            return [_shared(rollout, self.name, float(done.exit_code == 0), self.weight)]
        lines = done.output.strip().splitlines() or [""]
        try:
            value = float(lines[-1])
        except ValueError:
            raise ValueError(f"`{self.command}` printed no number last: {lines[-1][:SHOWN_CHARS]!r}") from None
        return [_shared(rollout, self.name, value, self.weight)]


def sandbox_of(
    rollout: Rollout,
    directory: Path,
    *,
    mounts: Sequence[Mount] = (),
    environment: Mapping[str, str] = {},
    unsandboxed: bool = False,
) -> Sandbox:
    """A sandbox in which an attempt can be graded: on the system and with the limits with which it ran, its record
    read-only.

    Blocks. Raises CommandRefused where that system is gone, JournalError where the record cannot be read.
    """
    directory = directory.resolve()
    record = directory / RAMET
    known = rollout.head.run and (record / rollout.head.run).is_dir()
    layout = RunLayout(directory, rollout.head.run) if known else None
    header = next(records(layout), None) if layout is not None else None
    return Sandbox(
        directory,
        record=record if record.is_dir() else None,
        mounts=mounts,
        environment=environment,
        limits=header.settings.limits if isinstance(header, Opened) else None,
        system=noted_system(layout) if layout is not None else None,
        unsandboxed=unsandboxed,
    )


def as_reward(reward: Reward | Callable[[Rollout, Path], Scores]) -> Reward:
    """A plain function as a reward of its own name."""
    if hasattr(reward, "terms"):
        return reward  # type: ignore[return-value]  # hasattr narrows no protocol
    return Function(getattr(reward, "__name__", "reward"), reward)


async def score(rewards: Iterable[Reward], rollout: Rollout, directory: Path) -> Rollout:
    """The rollout with the terms of all `rewards`, in their order."""
    terms = list(rollout.head.terms)
    for reward in rewards:
        terms += await _computed(reward, rollout, directory)
    return structs.replace(rollout, head=structs.replace(rollout.head, terms=tuple(terms)))


async def _computed(reward: Reward, rollout: Rollout, directory: Path) -> list[Term]:
    try:
        terms = [_checked(term, rollout) for term in await reward.terms(rollout, directory)]
    except Exception as error:  # somebody else's code: whatever it raises is data on this attempt
        said = str(error) if isinstance(error, CommandRefused) else f"{type(error).__name__}: {error}"
        terms = [Term(name=reward.name, agent=_root(rollout), score=None, shared=True, error=" ".join(said.split()))]
    for term in terms:
        if term.error:
            _log.warning("a reward has no score", rollout=rollout.head.id, term=term.name, reason=term.error)
    return terms


def _checked(term: Term, rollout: Rollout) -> Term:
    problem = ""
    if all(member.id != term.agent for member in rollout.head.members):
        problem = f"there is no agent {term.agent!r}"
    elif term.step is not None and not _is_step(term.step, rollout):
        problem = f"there is no step {term.step}"
    elif not math.isfinite(term.weight):
        problem = f"its weight is {term.weight}"
    elif term.score is not None and not math.isfinite(term.score):
        problem = f"it came to {term.score}"
    if not problem:
        return term
    finite = term.weight if math.isfinite(term.weight) else 1.0
    return structs.replace(term, score=None, weight=finite, error=problem)


def _is_step(step: tuple[int, int], rollout: Rollout) -> bool:
    edge, turn = step
    return any(one.id == edge and 0 <= turn < len(one.turns) for one in rollout.edges)


def _shared(rollout: Rollout, name: str, value: float, weight: float) -> Term:
    return Term(name=name, agent=_root(rollout), score=float(value), weight=weight, shared=True)


def _root(rollout: Rollout) -> str:
    return rollout.head.members[0].id if rollout.head.members else ""
