"""Collecting rollouts: many attempts at many tasks on one engine.

    async with collect(tasks, [passed], group=8, engine=engine) as collected:
        async for rollout in collected:
            ...
            async with collected.updating():
                ...  # load new weights: turns stand still, and go on where they were

Owns the attempts: each root agent in a run and a directory of its own. Invariants: every attempt is yielded exactly
once, whatever happened to it (a bug excepted, which reaches whoever collects); at most `at_once` are under way, the
rewards included, and nobody starts another while what is done waits to be taken; leaving the block ends what is under
way and removes what was made for it. Attempts come as they end: their heads say which they are. Knows no credit.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

import anyio
import structlog
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from msgspec import Struct, structs

from agents.chat import Chat
from agents.host import Outcome, ToolRefused
from agents.tools import TOOLS, Tool
from runtime.engine.base import Engine
from runtime.errors import verdict
from runtime.records import Settings
from runtime.rollouts.images import ImageFailed, Images
from runtime.rollouts.replay import Metered, Replay, refusing
from runtime.rollouts.reward import Reward, Scores, as_reward, score
from runtime.rollouts.schema import VERSION, Head, Member, Rollout
from runtime.rollouts.tasks import ORDER, Task, lay_out, settings_for
from runtime.rollouts.trace import Trace, rollouts_of
from runtime.rollouts.updating import HeldEngine
from runtime.swarm import Swarm

__all__ = ["GIVEN", "GIVEN_BACK", "ORDER", "POSITION", "SHUFFLED", "Collector", "Planned", "collect", "planned"]

_log = structlog.get_logger(__name__)

# Beside ORDER, where tasks are attempted one after the other: the how many-th this one was.
POSITION = "position"
GIVEN, SHUFFLED = "given", "shuffled"
# A key of `Head.info` of an attempt that went on from another: how many of its sampled tokens were that one's.
GIVEN_BACK = "given_back"
USER_ROLE = "user"
USER_NOTE = "{prompt}\n{user} is the user: write to it with send, and wait for its mail, where you need to ask."


class _Step(Struct, frozen=True, kw_only=True):
    """One attempt at one task."""

    task: Task
    attempt: int
    group: str
    info: Mapping[str, str]


class _Job(Struct, frozen=True, kw_only=True):
    """Attempts in one directory, one after the other."""

    directory: Path
    steps: tuple[_Step, ...]


Planned = tuple[str, str, int]
"""What names an attempt of a collection: its task, group and number."""


def planned(rollout: Rollout) -> Planned:
    """Which attempt of the plan a rollout is."""
    return rollout.head.task, rollout.head.group, rollout.head.attempt


class Collector:
    """What `collect` yields: the rollouts as they come, and the door to the engine."""

    def __init__(
        self, engine: HeldEngine, rollouts: MemoryObjectReceiveStream[Rollout], plan: Sequence[Planned]
    ) -> None:
        self.engine = engine
        self.plan = plan  # every attempt, in the order of tasks and attempts
        self._rollouts = rollouts

    def __aiter__(self) -> AsyncIterator[Rollout]:
        return self._rollouts

    def updating(self) -> AbstractAsyncContextManager[None]:
        """Hold all attempts still while weights change.

        Turns that were being generated keep what they have and go on with it afterwards: their tokens then have two
        versions, and which is which is in `Edge.versions`. See `HeldEngine.held`.
        """
        return self.engine.held()


@asynccontextmanager
async def collect(
    tasks: Iterable[Task],
    rewards: Sequence[Reward | Callable[[Rollout, Path], Scores]] = (),
    *,
    group: int,
    engine: Engine,
    at_once: int = 8,
    settings: Settings | None = None,
    sequential: bool = False,
    seed: int = 0,
    frozen: Sequence[str] = (),
    partial: bool = False,
    sampled_tokens: int | None = None,
    directory: Path | None = None,
    tools: Mapping[str, type[Tool]] = TOOLS,
    chat: Chat | None = None,
) -> AsyncIterator[Collector]:
    """Attempt each task `group` times, each attempt with its own files, and grade it by the task's rewards and these.

    `frozen`: patterns such as `scout*` for ids, roles or kinds of agents that are not trained. `directory`: where the
    attempts' directories are made and stay; without it they are removed once an attempt is graded. `sequential`: each
    attempt goes through all tasks, one after the other in one directory that is kept in between, in the order given
    and then again, elsewhere, in one shuffled by `seed`; these two are groups of their own. Settings with a seed get
    another one for each attempt; those without any sample at temperature 1. `sampled_tokens`: once so many have been
    sampled in all, no turn begins any more, and attempts that need one are rollouts with an error.

    `partial`: attempt each task also with its question only, without tools, and with its last sentence only, in groups
    of their own which are dropped from training: a task that scores so leaks its answer.

    Tasks that go on from other attempts (see `midway`) can be given like any others; what was sampled there is given
    back and counts nowhere. Where that cannot be, because the root was told something else than then, or ended before,
    the attempt is a rollout with an error. Never one that differs from what it says it went on from.

    Raises, on entering, ValueError, EngineError, ModelNotFound and ChatError; on leaving, in a group, what is a bug.
    """
    if group < 1 or at_once < 1:
        raise ValueError("group and at_once must be at least 1")
    every = list(tasks)
    if sequential and any(task.after is not None for task in every):
        raise ValueError("an attempt that goes on from another cannot be part of a sequence")
    if partial:
        if sequential:
            raise ValueError("partial inputs have no place in a sequence")
        from runtime.rollouts.partial import partial_tasks  # which loads the audit

        every = [one for task in every for one in (task, *(partial_tasks(task) if task.after is None else ()))]
    base = settings or Settings(temperature=1.0)
    if group == 1 and any(task.after is None for task in every):
        _log.warning("a group of one: what an attempt earns is compared with nothing")
    elif base.temperature == 0:
        _log.warning("temperature 0: the attempts of a group are alike, so nothing can be learned from them")
    if chat is None:
        chat = await to_thread.run_sync(Chat.load, (await engine.capacity()).model)
    held = HeldEngine(engine)
    with tempfile.TemporaryDirectory(prefix="ramet-rollouts-", ignore_cleanup_errors=True) as made:
        place = directory or Path(made)
        jobs = deque(_sequences(every, group, place, seed) if sequential else _single(every, group, place))
        plan = [(step.task.id, step.group, step.attempt) for job in jobs for step in job.steps]
        metered = held if sampled_tokens is None else Metered(held, sampled_tokens)
        attempts = _Attempts(metered, chat, base, tools, seed, frozen, [as_reward(reward) for reward in rewards])
        send, receive = anyio.create_memory_object_stream[Rollout](0)
        async with receive, anyio.create_task_group() as workers:
            async with send:
                for _ in range(min(at_once, len(jobs))):
                    workers.start_soon(_work, attempts, jobs, send.clone(), directory is None)
            yield Collector(held, receive, plan)
            workers.cancel_scope.cancel("the collection is being left")


async def _work(attempts: _Attempts, jobs: deque[_Job], send: MemoryObjectSendStream[Rollout], remove: bool) -> None:
    async with send:
        while jobs:
            job = jobs.popleft()
            for step in job.steps:
                await send.send(await attempts.make(step, job.directory))
            if remove:
                await to_thread.run_sync(shutil.rmtree, job.directory, True)


def _single(tasks: Sequence[Task], group: int, place: Path) -> Iterable[_Job]:
    for number, task in enumerate(tasks):
        first = task.after.first if task.after is not None else 0
        for attempt in range(first, first + group):
            step = _Step(task=task, attempt=attempt, group=task.group or task.id, info=task.info)
            yield _Job(directory=place / f"{number:04d}-{attempt:02d}", steps=(step,))


def _sequences(tasks: Sequence[Task], group: int, place: Path, seed: int) -> Iterable[_Job]:
    for attempt in range(group):
        for order, line in ((GIVEN, list(tasks)), (SHUFFLED, _shuffled(tasks, Random(f"{seed} {attempt}")))):
            suffix = "" if order == GIVEN else f"@{order}"
            steps = tuple(
                _Step(
                    task=task,
                    attempt=attempt,
                    group=f"{task.group or task.id}{suffix}",
                    info={**task.info, ORDER: order, POSITION: str(position)},
                )
                for position, task in enumerate(line)
            )
            yield _Job(directory=place / f"{order}-{attempt:02d}", steps=steps)


def _shuffled(tasks: Sequence[Task], random: Random) -> list[Task]:
    """Another order, where there is one."""
    line = list(tasks)
    while len(line) > 1 and all(a is b for a, b in zip(line, tasks, strict=True)):
        random.shuffle(line)
    return line


class _Attempts:
    """Makes attempts, each on its own."""

    def __init__(
        self,
        engine: Engine,
        chat: Chat,
        settings: Settings,
        tools: Mapping[str, type[Tool]],
        seed: int,
        frozen: Sequence[str],
        rewards: Sequence[Reward],
    ) -> None:
        self._engine = engine
        self._chat = chat
        self._settings = settings
        self._tools = tools
        self._seed = seed
        self._frozen = frozen
        self._rewards = rewards
        self._images = Images()

    async def make(self, step: _Step, directory: Path) -> Rollout:
        """One attempt, graded. What goes wrong is said in its head; only a bug is raised."""
        task, trace = step.task, Trace()
        swarm: Swarm | None = None
        users: set[str] = set()
        error = ""
        replay = None if task.after is None else Replay(self._engine, task.after, self._chat.text)
        try:
            system = None if task.image is None else await self._images.system(task.image)
            await to_thread.run_sync(lay_out, task, directory, system)
        except ImageFailed as failure:
            return _nothing(step, str(failure))
        except OSError as failure:
            return _nothing(step, f"its files cannot be laid out: {failure}")
        try:
            observers = [trace.observe, *([task.observe(directory)] if task.observe else [])]
            swarm = Swarm(
                replay or self._engine,
                directory,
                settings=self._settings_of(step),
                tools=self._tools_of(task, replay),
                chat=self._chat,
                observers=observers,
                system=system,
            )
            async with swarm:
                error = await self._played(swarm, task, users)
        except Exception as failure:  # what is known to go wrong is data; a bug is not
            if (known := verdict(failure)) is None:
                raise
            error = "; ".join(known.messages)
        made = (
            rollouts_of(
                swarm.state,
                trace,
                task=task.id,
                group=step.group,
                attempt=step.attempt,
                trained=lambda member: member.id not in users and not self._is_frozen(member),
                words=self._chat.text,
            )
            if swarm is not None and trace.kinds
            else []
        )
        rollout = made[0] if made else _nothing(step, error)
        head = rollout.head
        if not error and head.outcome is Outcome.FAILED:
            error = head.result  # of a root: the engine, or a task too long for its context
        info = dict(step.info)
        if replay is not None:
            info[GIVEN_BACK] = str(replay.given_tokens)
            if not (error or replay.over):
                error = f"it ended ({head.outcome}) before the turn from which it was to go on"
        rollout = structs.replace(rollout, head=structs.replace(head, error=error, dropped=task.dropped, info=info))
        return rollout if error else await score([*task.rewards, *self._rewards], rollout, directory)

    async def _played(self, swarm: Swarm, task: Task, users: set[str]) -> str:
        """Let the attempt go on until its root ends; returns why it could not, "" if it could."""
        if not task.user:
            await (await swarm.start(task.prompt)).result()
            return ""
        # The user is the second agent: the lead is told so before it exists, and takes no turn before it does.
        user = "a2"
        lead = await swarm.start(USER_NOTE.format(prompt=task.prompt, user=user))
        try:
            (other,) = await lead.spawn([task.user], interview=False)
        except ToolRefused as refusal:
            return f"no user can be simulated: {refusal}"
        assert other.id == user
        users.add(user)
        await other.introduce(USER_ROLE, "a simulated user")
        await lead.result()
        return ""

    def _tools_of(self, task: Task, replay: Replay | None) -> Mapping[str, type[Tool]]:
        tools = self._tools
        if task.tools is not None:
            tools = {name: tool for name, tool in tools.items() if name in task.tools}
        return refusing(tools, replay) if replay is not None and replay.alone else tools

    def _settings_of(self, step: _Step) -> Settings:
        settings = settings_for(step.task, self._settings)
        if settings.seed is None:
            return settings
        own = Random(f"{settings.seed} {self._seed} {step.group} {step.attempt}").randrange(2**31)
        return structs.replace(settings, seed=own)

    def _is_frozen(self, member: Member) -> bool:
        names = (member.id, member.role, member.kind)
        return any(fnmatchcase(name, pattern) for name in names if name for pattern in self._frozen)


def _nothing(step: _Step, error: str) -> Rollout:
    """An attempt that came to nothing at all."""
    head = Head(
        v=VERSION,
        id=f"{step.group}/{step.attempt}",
        task=step.task.id,
        group=step.group,
        run="",
        prompt=step.task.prompt,
        outcome=Outcome.FAILED,
        result="",
        members=(),
        leaves=(),
        attempt=step.attempt,
        error=error,
        dropped=step.task.dropped,
        info=dict(step.info),
    )
    return Rollout(head=head, edges=())
