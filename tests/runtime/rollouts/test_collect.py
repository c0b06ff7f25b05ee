"""Collecting rollouts on the scripted engine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from msgspec import structs

from agents.host import Outcome
from runtime.budget import Budget
from runtime.engine.base import EngineUnavailable, FinishReason, Generation
from runtime.engine.scripted import ScriptedEngine
from runtime.records import Settings
from runtime.rollouts.collect import ORDER, POSITION, Collector, collect, planned
from runtime.rollouts.reward import Command, Function
from runtime.rollouts.schema import Rollout, verify
from runtime.rollouts.summary import Summary, reward_of, slope, tokens_of
from runtime.rollouts.tasks import Task
from tests.support import call, scripted, survey, tiny_chat
from workspace import Limits

pytestmark = pytest.mark.anyio
HOT = Settings(temperature=1.0)


def ledgers(name: str, *figures: int) -> Task:
    """A task that the survey policy can do."""
    files = {f"ledgers/l{n}.txt": f"ledger {n}\ntotal: {figure}\n" for n, figure in enumerate(figures)}
    right = Function("correct", lambda rollout, _: rollout.head.result == str(sum(figures)))
    return Task(id=name, prompt="add up", files=files, rewards=(right,))


async def everything(collected: Collector) -> list[Rollout]:
    """All rollouts of a collection, in the order of its plan."""
    rollouts = {planned(rollout): rollout async for rollout in collected}
    return [rollouts[key] for key in collected.plan]


@pytest.mark.parametrize(("limits", "earned"), [(Limits(), 1.0), (Limits(file_bytes=1_000), 0.0)])
async def test_an_attempt_is_graded_with_the_limits_it_ran_with(tmp_path: Path, limits: Limits, earned: float) -> None:
    """A command that grades has those of the run, not the defaults."""
    task = Task(id="t", prompt="p", rewards=(Command("written", "head -c 5000 /dev/zero > much"),))
    settings = structs.replace(HOT, limits=limits)
    engine = scripted(lambda text: call("finish", result="ok"))
    async with collect([task], group=2, engine=engine, settings=settings, directory=tmp_path) as collected:
        assert [reward_of(rollout) for rollout in await everything(collected)] == [earned] * 2


async def test_each_attempt_is_a_rollout(tmp_path: Path) -> None:
    """Each task is attempted as often as asked for, in directories of their own; each attempt has its reward, is whole,
    and says which it is."""
    engine = scripted(survey)
    tasks = [ledgers("small", 1, 2), ledgers("large", 3, 4, 5)]
    async with collect(tasks, group=3, engine=engine, settings=HOT, directory=tmp_path) as collected:
        rollouts = await everything(collected)
    assert [(r.head.task, r.head.group, r.head.attempt, r.head.result) for r in rollouts] == [
        *[("small", "small", n, "3") for n in range(3)],
        *[("large", "large", n, "12") for n in range(3)],
    ]
    assert [verify(rollout) for rollout in rollouts] == [[]] * 6
    assert [reward_of(rollout) for rollout in rollouts] == [1.0] * 6
    assert len({rollout.head.run for rollout in rollouts}) == 6
    assert len(os.listdir(tmp_path)) == 6
    assert engine.running == engine.tree.sessions == engine.tree.reserved == 0


async def test_no_more_at_once_than_asked_for() -> None:
    """At most `at_once` roots are under way; what was made for them is gone when the collection is over."""
    alive: set[Path] = set()
    most = 0

    def grade(rollout: Rollout, directory: Path) -> float:
        nonlocal most
        alive.add(directory)
        most = max(most, sum(one.exists() for one in alive))
        return 1.0

    async with collect([ledgers("t", 1, 2)], [grade], group=9, engine=scripted(survey), at_once=2) as collected:
        assert len(await everything(collected)) == 9
    assert len(alive) == 9
    assert most <= 3  # two under way, and one that is just being removed
    assert not any(directory.exists() for directory in alive)


async def test_what_fails_is_data() -> None:
    """An engine that fails one root, files that cannot be laid out, a budget that runs out: each is a rollout with an
    error or an outcome, and the others go on. What failed is not graded."""

    class Flaky(ScriptedEngine):
        async def generate(self, context, sampling, *, session):  # type: ignore[no-untyped-def]
            if "broken" in tiny_chat().text(context.ids()):
                raise EngineUnavailable("connection reset")
            return await super().generate(context, sampling, session=session)

    inner = scripted(survey)
    engine = Flaky(inner._policy, model=inner._capacity.model)
    tasks = [
        ledgers("good", 1, 2),
        Task(id="engine", prompt="broken"),
        Task(id="files", prompt="x", files={"a": "", "a/b": ""}),
        structs.replace(ledgers("poor", 1, 2), settings={"budget": Budget(turns=2)}),
    ]
    async with collect(tasks, group=2, engine=engine, settings=HOT) as collected:
        rollouts = await everything(collected)
    good, broken, files, poor = rollouts[::2]
    assert (good.head.error, reward_of(good)) == ("", 1.0)
    assert "connection reset" in broken.head.error
    assert "laid out" in files.head.error
    assert (broken.head.terms, files.head.terms) == ((), ())
    assert (poor.head.outcome, poor.head.error, reward_of(poor)) == (Outcome.OUT_OF_BUDGET, "", 0.0)
    assert [verify(rollout) for rollout in rollouts] == [[]] * 8


async def test_an_engine_that_is_gone_fails_what_is_left() -> None:
    """Where the engine does not answer at all, every attempt is still yielded, with the reason."""

    class Gone(ScriptedEngine):
        async def generate(self, context, sampling, *, session):  # type: ignore[no-untyped-def]
            raise EngineUnavailable("cannot reach it")

        async def healthy(self) -> bool:
            return False

    inner = scripted(survey)
    engine = Gone(inner._policy, model=inner._capacity.model)
    async with collect([ledgers("t", 1, 2)], group=3, engine=engine, settings=HOT) as collected:
        rollouts = await everything(collected)
    assert [rollout.head.error for rollout in rollouts] == ["cannot reach it"] * 3


async def test_a_bug_reaches_who_collects() -> None:
    """An error that nobody knows is no data: it comes out of the block, in a group."""

    def bug(directory: Path):  # type: ignore[no-untyped-def]
        raise ZeroDivisionError

    task = structs.replace(ledgers("t", 1), observe=bug)
    with pytest.raises(ExceptionGroup) as raised:
        async with collect([task], group=2, engine=scripted(survey), settings=HOT) as collected:
            await everything(collected)
    assert raised.group_contains(ZeroDivisionError, depth=None)


async def test_leaving_early_ends_what_is_under_way(tmp_path: Path) -> None:
    """Whoever leaves the block leaves nothing behind: no request, no session, no directory."""
    hold = anyio.Event()

    async def pace(computed: int, sampled: int) -> None:
        await hold.wait()

    engine = scripted(survey, pace=pace)
    with anyio.CancelScope() as scope:
        async with collect([ledgers("t", 1, 2)], group=4, engine=engine, settings=HOT, at_once=3):
            while engine.running < 3:
                await checkpoint()
            scope.cancel()
    assert engine.running == engine.tree.reserved == engine.tree.sessions == 0
    hold.set()
    async with collect([ledgers("t", 1, 2)], group=4, engine=engine, settings=HOT) as collected:
        async for _ in collected:
            break
    assert engine.running == engine.tree.reserved == engine.tree.sessions == 0


class Learning(ScriptedEngine):
    """An engine whose weights can change, and which can be told to serve nobody."""

    version = "v1"

    def __init__(self, *arguments, **options) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*arguments, **options)
        self.told: list[str] = []

    async def generate(self, context, sampling, *, session):  # type: ignore[no-untyped-def]
        generation: Generation = await super().generate(context, sampling, session=session)
        return structs.replace(generation, weight_version=self.version)

    async def pause(self) -> None:
        assert self.running == 0
        self.told.append("pause")

    async def proceed(self) -> None:
        self.told.append("proceed")


async def test_weights_change_within_a_turn() -> None:
    """While weights are updated nothing is in flight; each turn that was being generated keeps what it had and goes on,
    so its tokens have two versions, and they are what the engine would have sampled without any of that."""
    gate, asked = anyio.Event(), 0

    async def pace(computed: int, sampled: int) -> None:
        nonlocal asked
        asked += 1
        await gate.wait()

    inner = scripted(survey)
    engine = Learning(inner._policy, model=inner._capacity.model, pace=pace)
    async with collect([ledgers("t", 1, 2)], group=3, engine=engine, settings=HOT, at_once=2) as collected:
        while asked < 2:
            await checkpoint()
        async with collected.updating():
            assert engine.running == 0
            assert engine.told == ["pause"]
            for _ in range(50):  # nobody starts anything meanwhile
                await checkpoint()
            assert engine.running == 0
            engine.version = "v2"
            gate.set()
        rollouts = await everything(collected)
    assert engine.told == ["pause", "proceed"]
    split = [r for r in rollouts if len({v.version for v in r.edges[0].versions}) == 2]
    assert len(split) == 2  # those that were under way; the third came after
    for rollout in split:
        trunk = rollout.edges[0]
        old, new = trunk.versions[:2]
        turn = trunk.turns[0]
        assert (turn.start, turn.finish) == (old.start, "stop")
        assert (old.version, new.version) == ("v1", "v2")
        assert old.end == new.start < turn.end  # within the turn
    assert {r.head.result for r in rollouts} == {"3"}
    whole = next(r for r in rollouts if r not in split)
    assert all(r.edges[0].tokens == whole.edges[0].tokens for r in split)


async def test_updates_again_and_again() -> None:
    """However often weights change while copies come and go, each attempt ends as it would have."""
    inner = scripted(survey)
    engine = Learning(inner._policy, model=inner._capacity.model, pace=lambda computed, sampled: checkpoint())
    async with collect([ledgers("t", 1, 2, 3)], group=6, engine=engine, settings=HOT, at_once=4) as collected:

        async def update() -> None:
            for number in count():
                async with collected.updating():
                    assert engine.running == 0
                    engine.version = f"v{number}"
                for _ in range(30):  # time for a few requests, whole or in part
                    await checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(update)
            rollouts = await everything(collected)
            group.cancel_scope.cancel()
    assert [r.head.result for r in rollouts] == ["6"] * 6
    assert [verify(r) for r in rollouts] == [[]] * 6
    assert len({v.version for r in rollouts for e in r.edges for v in e.versions}) > 2


async def test_an_update_waits_for_requests_and_not_for_interruptions() -> None:
    """An engine may go on looking for a request that had ended when it was to be interrupted: nobody waits for that."""

    class Searching(Learning):
        async def interrupt(self, session: str) -> None:
            await super().interrupt(session)
            await anyio.sleep_forever()

    asked = anyio.Event()

    async def pace(computed: int, sampled: int) -> None:
        asked.set()
        await checkpoint()

    inner = scripted(survey)
    engine = Searching(inner._policy, model=inner._capacity.model, pace=pace)
    async with collect([ledgers("t", 1, 2)], group=2, engine=engine, settings=HOT) as collected:
        await asked.wait()
        async with collected.updating():
            assert engine.running == 0
        assert len(await everything(collected)) == 2


async def test_a_turn_that_is_aborted_at_its_end_has_ended() -> None:
    """SGLang says `abort` of a request that had just sampled its stop token: such a turn does not go on."""

    class Late(ScriptedEngine):
        async def generate(self, context, sampling, *, session):  # type: ignore[no-untyped-def]
            generation: Generation = await super().generate(context, sampling, session=session)
            return structs.replace(generation, finish=FinishReason.ABORT)

    inner = scripted(survey)
    engine = Late(inner._policy, model=inner._capacity.model)
    async with collect([ledgers("t", 1, 2)], group=2, engine=engine, settings=HOT) as collected:
        assert [rollout.head.result for rollout in await everything(collected)] == ["3", "3"]


async def test_a_cancelled_update_lets_the_others_go_on() -> None:
    """Whoever is cancelled while it updates leaves the door open, and the engine serving."""
    inner = scripted(survey)
    engine = Learning(inner._policy, model=inner._capacity.model)
    async with collect([ledgers("t", 1, 2)], group=2, engine=engine, settings=HOT) as collected:
        with anyio.CancelScope() as scope:
            async with collected.updating():
                scope.cancel()
                await checkpoint()
        assert engine.told == ["pause", "proceed"]
        assert len(await everything(collected)) == 2


async def test_who_is_not_trained() -> None:
    """Agents are named by patterns for id, role or kind; all others are trained."""
    options = {"group": 1, "engine": scripted(survey), "settings": HOT}
    async with collect([ledgers("t", 1, 2)], frozen=["f*rk"], **options) as collected:
        (rollout,) = await everything(collected)
    assert [(m.kind, m.trainable) for m in rollout.head.members] == [("root", True), ("fork", False), ("fork", False)]


async def test_a_simulated_user_answers_and_is_not_trained() -> None:
    """A task's user is an agent like any other, whom the lead writes to; it learns nothing from it."""

    def decide(text: str) -> str:
        mail = re.findall(r"Mail \S+ from a\d[^:]*: (.*)\n(.*)", text)
        if "You are new" in text:
            if not mail:
                return call("wait", until="mail")
            said = "sent to" in text
            return call("finish", result="told") if said else call("send", to=["a1"], subject="re", body="blue")
        if mail:
            return call("finish", result=mail[-1][1])
        return call("wait", until="mail") if "sent to" in text else call("send", to=["a2"], subject="?", body="colour?")

    task = Task(id="t", prompt="Which colour?", user="You want blue. Answer by mail.")
    async with collect([task], group=1, engine=scripted(decide), settings=HOT) as collected:
        (rollout,) = await everything(collected)
    assert rollout.head.result == "blue"
    assert [(m.id, m.role, m.trainable) for m in rollout.head.members] == [("a1", "", True), ("a2", "user", False)]
    assert verify(rollout) == []


async def test_a_user_that_cannot_be_there() -> None:
    """Where the budget allows no second agent, that is what went wrong with the attempt."""
    task = Task(id="t", prompt="p", user="u", settings={"budget": Budget(depth=0)})
    async with collect([task], group=1, engine=scripted(survey), settings=HOT) as collected:
        (rollout,) = await everything(collected)
    assert rollout.head.error.startswith("no user can be simulated: ")


async def test_a_stream_of_tasks_keeps_the_workspace(tmp_path: Path) -> None:
    """In sequence each attempt goes through the tasks in one directory, in the order given and in another one: what an
    earlier task left is there for the later ones, and the slopes show whether that helps."""

    def decide(text: str) -> str:
        if "created" in text or "replaced" in text:
            return call("finish", result=str(len(re.findall(r"^f\d\.txt$", text, re.MULTILINE))))
        number = re.search(r"task (\d)", text)
        assert number is not None
        listed = "<tool_response>" in text
        return call("write_file", path=f"f{number[1]}.txt", text="x") if listed else call("list_files")

    tasks = [Task(id=f"t{n}", prompt=f"task {n}") for n in range(4)]
    left = Function("left", lambda rollout, directory: float(rollout.head.result))
    options = {"group": 2, "engine": scripted(decide), "settings": HOT}
    async with collect(tasks, [left], sequential=True, directory=tmp_path, seed=3, **options) as collected:
        rollouts = await everything(collected)
    summary = Summary()
    for rollout in rollouts:
        summary.add(rollout)
        assert reward_of(rollout) == float(rollout.head.info[POSITION])
    figures = summary.figures()
    assert figures["slope"] == {"given": 1.0, "shuffled": 1.0}
    given = [r.head.task for r in rollouts if r.head.info[ORDER] == "given"]
    shuffled = [r.head.task for r in rollouts if r.head.info[ORDER] == "shuffled"]
    assert given == ["t0", "t1", "t2", "t3"] * 2
    assert all(sorted(line) == given[:4] != line for line in (shuffled[:4], shuffled[4:]))


async def test_a_seed_is_another_one_for_each_attempt() -> None:
    """With one and the same seed all attempts of a group would be alike."""
    seeds: list[int | None] = []

    class Spy(ScriptedEngine):
        async def generate(self, context, sampling, *, session):  # type: ignore[no-untyped-def]
            seeds.append(sampling.seed)
            return await super().generate(context, sampling, session=session)

    inner = scripted(lambda _: call("finish", result="x"))
    engine = Spy(inner._policy, model=inner._capacity.model)
    for _ in range(2):
        async with collect([Task(id="t", prompt="p")], group=3, engine=engine, settings=Settings(seed=7)) as collected:
            await everything(collected)
    assert len(set(seeds[:3])) == 3
    assert sorted(map(str, seeds[:3])) == sorted(map(str, seeds[3:]))


async def test_what_cannot_be_compared_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A group of one, and attempts at temperature 0, are collected, with one clear warning."""
    engine = scripted(lambda _: call("finish", result="x"))
    for group, settings, said in ((1, HOT, "a group of one"), (2, Settings(), "temperature 0")):
        async with collect([Task(id="t", prompt="p")], group=group, engine=engine, settings=settings) as collected:
            assert len(await everything(collected)) == group
        assert "".join(capsys.readouterr()).count(said) == 1


def test_slopes() -> None:
    """By least squares; none for a single position."""
    assert slope([(0, 1.0), (1, 3.0), (2, 5.0)]) == 2.0
    assert slope([(0, 0.0), (0, 2.0), (1, 4.0)]) == pytest.approx(3.0)
    assert slope([(0, 1.0), (0, 2.0)]) is None
    assert slope([]) is None


async def test_flat_tokens_count_the_trunk_for_every_leaf() -> None:
    """Distinct tokens once; flat ones as often as a leaf has them in its context."""
    async with collect([ledgers("t", 1, 2, 3)], group=1, engine=scripted(survey), settings=HOT) as collected:
        (rollout,) = await everything(collected)
    lengths: Sequence[int] = [len(rollout.context(leaf.edge)) for leaf in rollout.head.leaves]
    assert tokens_of(rollout) == (sum(len(edge.tokens) for edge in rollout.edges), sum(lengths))
