"""Tasks: read from anywhere, and laid out. Harbor folders are graded by their own tests, in the real sandbox."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from runtime.budget import Budget
from runtime.records import Settings
from runtime.rollouts.collect import collect
from runtime.rollouts.harbor import HarborTests, read_harbor
from runtime.rollouts.reward import score
from runtime.rollouts.schema import Term
from runtime.rollouts.summary import reward_of
from runtime.rollouts.tasks import Task, TaskRefused, lay_out, load_tasks, settings_for, story_task
from tests.runtime.rollouts.test_schema import small
from tests.support import call, scripted

pytestmark = pytest.mark.anyio


def lines(path: Path, *tasks: object) -> str:
    """A file of tasks."""
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in tasks))
    return str(path)


def test_a_file_of_tasks(tmp_path: Path) -> None:
    """One JSON object a line; a task has files or a directory, settings of its own, and how it is graded."""
    (tmp_path / "project").mkdir()
    source = lines(
        tmp_path / "t.jsonl",
        {"prompt": "one"},
        "",
        {"id": "b", "prompt": "two", "directory": "project", "answer": "4", "check": "true", "seconds": 3},
        {"id": "c", "prompt": "three", "files": {"a/b.txt": "x"}, "group": "g", "settings": {"turn_tokens": 64}},
    )
    tasks, problems = load_tasks(source)
    assert problems == []
    one, two, three = tasks
    assert (one.id, one.prompt, one.rewards) == ("t-1", "one", ())
    assert (two.directory, [reward.name for reward in two.rewards]) == (tmp_path / "project", ["correct", "check"])
    assert settings_for(two, Settings(budget=Budget(turns=9))).budget == Budget(turns=9, seconds=3)
    assert settings_for(three, Settings(temperature=0.5)) == Settings(temperature=0.5, turn_tokens=64)
    assert three.group == "g"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "truncated"),
        ({}, "prompt"),
        ({"prompt": " "}, "prompt: the text is empty"),
        ({"prompt": "x", "colour": 1}, "colour"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "x", "files": {"../a": ""}}, "files: '../a'"),
        ({"prompt": "x", "files": {"/a": ""}}, "files: '/a'"),
        ({"prompt": "x", "files": {".ramet/a": ""}}, "files: '.ramet/a'"),
        ({"prompt": "x", "directory": "nowhere"}, "directory: no such directory"),
        ({"prompt": "x", "settings": {"heat": 1}}, "settings: Object contains unknown field `heat`"),
        ({"prompt": "x", "seconds": 0}, "seconds: must be positive"),
        ({"prompt": "x", "id": "good"}, "id: 'good' is there twice"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(tmp_path: Path, line: object, said: str) -> None:
    """One line names file, line and field; the others are tasks."""
    source = lines(tmp_path / "t.jsonl", {"prompt": "a", "id": "good"}, line, {"prompt": "b", "id": "last"})
    tasks, problems = load_tasks(source)
    assert [task.id for task in tasks] == ["good", "last"]
    (problem,) = problems
    assert problem.startswith(source)
    assert said in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.jsonl", "no such file"),
        ("story:nothing", "story:NAME"),
        ("story:survey:2:1", "2 to 12 files"),
        ("no_such_module:tasks", "cannot be imported"),
        ("json:no_such_name", "cannot be imported"),
        ("json:dumps.__name__", "is no Task"),
    ],
)
def test_a_source_that_is_none(source: str, said: str) -> None:
    """Where nothing can be used there are no tasks, and at least one line."""
    tasks, problems = load_tasks(source)
    assert tasks == []
    assert said in problems[0]


def test_a_python_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Task, several, or a function that returns them."""
    (tmp_path / "ramet_my_tasks.py").write_text(
        "from runtime.rollouts.tasks import Task\n"
        "one = Task(id='one', prompt='x')\n"
        "several = [one, 3]\n"
        "def made():\n    return (Task(id=str(n), prompt='x') for n in range(2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert [task.id for task in load_tasks("ramet_my_tasks:one")[0]] == ["one"]
    assert load_tasks("ramet_my_tasks:several")[1] == ["ramet_my_tasks:several: number 1 is no Task but a int"]
    assert [task.id for task in load_tasks("ramet_my_tasks:made")[0]] == ["0", "1"]
    del sys.modules["ramet_my_tasks"]


def test_stories(tmp_path: Path) -> None:
    """The demo's stories, one a seed; the same seed makes the same task, and another one another."""
    tasks, problems = load_tasks("story:detour:3:4", seed=5)
    assert (problems, [task.id for task in tasks]) == ([], ["detour-5-4", "detour-6-4", "detour-7-4"])
    again = load_tasks("story:detour:3:4", seed=5)[0]
    assert [task.files for task in tasks] == [task.files for task in again]
    assert len({task.prompt for task in tasks}) == 3
    review = settings_for(load_tasks("story:review")[0][0], Settings(temperature=0.7))
    assert (review.review, review.temperature, review.turn_tokens) == (True, 0.7, 256)


async def test_a_story_is_graded_by_its_answer() -> None:
    """The right answer earns 1, any other 0."""
    task = story_task("survey", 3)
    for result, earned in ((task.info["answer"], 1.0), ("no idea", 0.0)):
        engine = scripted(lambda _, said=result: call("finish", result=said))
        async with collect([task], group=1, engine=engine) as collected:
            assert [reward_of(rollout) async for rollout in collected] == [earned]


def test_laying_out_replaces_nothing(tmp_path: Path) -> None:
    """A directory is copied, links as links, without runs; what is there already stays as it is."""
    source, target = tmp_path / "from", tmp_path / "to"
    (source / "deep").mkdir(parents=True)
    (source / ".ramet").mkdir()
    (source / "deep" / "a.txt").write_text("new")
    (source / "link").symlink_to("deep/a.txt")
    (source / "Dockerfile").write_text("FROM x")
    task = Task(id="t", prompt="p", directory=source, files={"b/c.txt": "c"}, left_out=("Dockerfile",))
    lay_out(task, target)
    (target / "deep" / "a.txt").write_text("changed")
    lay_out(task, target)
    found = {path.relative_to(target).as_posix(): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert found == {"deep/a.txt": "changed", "link": "changed", "b/c.txt": "c"}
    assert (target / "link").is_symlink()


def harbor(folder: Path, test: str = "echo 1 > /logs/verifier/reward.txt", toml: str = "", docker: str = "") -> Path:
    """A Harbor task folder."""
    for name in ("tests", "environment", "solution"):
        (folder / name).mkdir(parents=True)
    (folder / "task.toml").write_text(toml)
    (folder / "instruction.md").write_text("Write `done` into out.txt.\n")
    (folder / "tests" / "test.sh").write_text(test)
    (folder / "tests" / "expected.txt").write_text("done")
    (folder / "environment" / "data.txt").write_text("data")
    if docker:
        (folder / "environment" / "Dockerfile").write_text(docker)
    return folder


STEPS = "bad/task.toml: steps: multi-step tasks are not supported"
TEST = """
cd /app || exit 1
test -f data.txt || exit 2
cmp -s out.txt /tests/expected.txt || GRADE=0
echo "$GRADE" > /logs/verifier/reward.txt
touch /tests/x && exit 3
exit 1
"""


async def test_a_harbor_task(tmp_path: Path) -> None:
    """Its environment's files are there, its instruction is the prompt, and after the run its tests decide, where they
    expect to be: the exit code of the script counts nothing."""
    toml = (
        '[task]\nname = "org/done"\n[verifier]\ntimeout_sec = 60\nenv = { GRADE = "0.75" }\n[agent]\ntimeout_sec = 30\n'
    )
    harbor(tmp_path / "folder", TEST, toml, "FROM python:3.12\nWORKDIR /app\nCOPY . .\n")
    (task,) = load_tasks(str(tmp_path / "folder"), without_image=True)[0]
    assert (task.id, task.seconds, task.prompt) == ("org/done", 30, "Write `done` into out.txt.\n")

    def decide(text: str) -> str:
        if "<tool_response>" in text:
            return call("finish", result="there")
        return call("write_file", path="out.txt", text="done")

    async with collect([task], group=2, engine=scripted(decide), directory=tmp_path / "runs") as collected:
        rollouts = [rollout async for rollout in collected]
    assert [rollout.head.terms for rollout in rollouts] == [
        (Term(name="tests", agent="a1", score=0.75, shared=True),),
    ] * 2
    assert not (tmp_path / "folder" / "tests" / "x").exists()
    assert not (tmp_path / "runs" / "0000-00" / "Dockerfile").exists()
    assert rollouts[0].head.info == {"harbor": "folder", "not_applied": "environment.network_mode"}


async def test_tests_cannot_change_the_record(tmp_path: Path) -> None:
    """What an agent left runs in them: neither under its own name nor at `/app` can the run's record be written."""
    folder = harbor(
        tmp_path / "f", "for D in . /app; do echo x > $D/.ramet/new; done; echo 1 > /logs/verifier/reward.txt"
    )
    (tmp_path / "work" / ".ramet").mkdir(parents=True)
    (term,) = await HarborTests(folder / "tests").terms(small(), tmp_path / "work")
    assert term.score == 1.0
    assert list((tmp_path / "work" / ".ramet").iterdir()) == []


@pytest.mark.parametrize(
    ("wrote", "scores"),
    [
        ("echo ' 0.5 ' > $V.txt", {"tests": (0.5, 1.0)}),
        ("echo 0.25 > $V.json", {"tests": (0.25, 1.0)}),
        ('echo \'{"reward": 0.5, "speed": 3}\' > $V.json', {"tests": (0.5, 1.0), "tests.speed": (3.0, 0.0)}),
        ('echo \'{"a": 1, "b": 0}\' > $V.json', {"tests.a": (1.0, 0.5), "tests.b": (0.0, 0.5)}),
        ("true", "wrote no reward (exit code 0)"),
        ("echo oh no; exit 4", "wrote no reward (exit code 4): oh no"),
        ("echo much > $V.txt", "reward.txt: no number: 'much'"),
        ("echo '[1]' > $V.json", "reward.json: "),
        ("echo '{}' > $V.json", "reward.json: there is no number"),
        ("echo nan > $V.txt", "it came to nan"),
        ("ln -s /etc/passwd $V.txt", "reward.txt: not a plain file"),
        ("echo 1 > $V.txt; echo 0.25 > $V.json", {"tests": (0.25, 1.0)}),
        ("echo 1 > $V.txt; true > $V.json", "reward.json: "),
        ('echo \'{"reward": "1"}\' > $V.json', "reward.json: "),
        ("echo '{\"reward\": true}' > $V.json", {"tests": (1.0, 1.0)}),
        ("sleep 60", "did not end in 1 s"),
    ],
)
async def test_what_a_verifier_writes(tmp_path: Path, wrote: str, scores: object) -> None:
    """A number or numbers; anything else is a term without a score that says why."""
    folder = harbor(tmp_path / "f", f"V=/logs/verifier/reward\n{wrote}\n")
    reward = HarborTests(folder / "tests", timeout_s=1 if "sleep" in wrote else 60)
    (tmp_path / "work").mkdir()
    head = (await score([reward], small(), tmp_path / "work")).head
    terms = head.terms[1:]
    if isinstance(scores, dict):
        assert {term.name: (term.score, term.weight) for term in terms} == scores
    else:
        (term,) = terms
        assert term.score is None
        assert str(scores) in term.error


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "tests" / "test.sh").unlink(), "tests/test.sh: there is no such file"),
        (lambda f: (f / "instruction.md").unlink(), "instruction.md: cannot be read"),
        (lambda f: (f / "instruction.md").write_text("\n"), "instruction.md: the file is empty"),
        (lambda f: (f / "task.toml").unlink(), "task.toml: there is no such file"),
        (lambda f: (f / "task.toml").write_text("[x"), "task.toml: cannot be read"),
        (lambda f: (f / "task.toml").write_text("[verifier]\ntimeout_sec = 'x'"), "$.verifier.timeout_sec"),
        (
            lambda f: (f / "task.toml").write_text("[environment]\ndocker_image = '-v /:/x'"),
            "bad/task.toml: environment.docker_image: no image's name: '-v /:/x'",
        ),
        (
            lambda f: (f / "environment" / "docker-compose.yaml").write_text(""),
            "bad/environment/docker-compose.yaml needs several containers",
        ),
        (
            lambda f: (f / "task.toml").write_text("[environment]\nenv = { K = '${K}' }"),
            "toml: environment.env.K: takes a variable of your environment",
        ),
        (
            lambda f: (f / "task.toml").write_text("[verifier]\nenvironment_mode = 'separate'"),
            "toml: verifier.environment: the tests would run in a container of their own",
        ),
        (
            lambda f: (f / "task.toml").write_text("[[environment.mcp_servers]]\nname = 'x'"),
            "toml: environment.mcp_servers: agents have the tools of ramet",
        ),
        (lambda f: (f / "task.toml").write_text("[[steps]]\nname = 'x'"), STEPS),
        (lambda f: ((f / "steps").mkdir(), (f / "instruction.md").unlink()), STEPS),
        (
            lambda f: (f / "task.toml").write_text("[environment]\ngpus = 1"),
            "toml: environment.gpus: the sandbox has no GPU",
        ),
    ],
)
def test_a_harbor_folder_that_cannot_be_used(tmp_path: Path, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    """One line names the file and what is wrong; the folder beside it is taken."""
    harbor(tmp_path / "good")
    spoil(harbor(tmp_path / "bad"))
    tasks, problems = load_tasks(str(tmp_path))
    assert [task.id for task in tasks] == ["good"]
    (problem,) = problems
    assert said in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("toml", "field"),
    [
        ("[environment]\nallow_internet = true", "environment.allow_internet"),
        ("[environment]\nallow_internet = false\nnetwork_mode = 'public'", "environment.network_mode"),
        ("[environment]\nallow_internet = true\nnetwork_mode = 'no-network'", ""),
        ("[environment]\nnetwork_mode = 'no-network'\n[verifier]\nnetwork_mode = 'public'", "verifier.network_mode"),
        ("[agent]\nallowed_hosts = ['example.org']", "agent.allowed_hosts"),
        ("[environment]\nallow_internet = false\n[agent]\nnetwork_mode = 'no-network'", ""),
        ("", ""),
    ],
)
def test_a_harbor_task_that_asks_for_a_network(tmp_path: Path, toml: str, field: str) -> None:
    """The line names the field that does; who asks for none, or says nothing, is taken."""
    folder = harbor(tmp_path / "f", toml=toml)
    tasks, problems = load_tasks(str(folder))
    line = f"{folder}/task.toml: {field}: the sandbox has no network; --without-image takes it all the same"
    assert problems == ([line] if field else [])
    assert bool(tasks) is not bool(field)
    assert load_tasks(str(folder), without_image=True)[1] == []


def test_what_is_not_applied_of_a_harbor_task(tmp_path: Path) -> None:
    """The task, and so each of its rollouts, says which: what the folder says, and Harbor's network by default."""
    toml = (
        "artifacts = ['/x']\n[environment]\ncpus = 2\nmemory_mb = 2048\nstorage = '10G'\ngpus = 0\nenv = { A = 'b' }\n"
        "build_timeout_sec = 9\nhealthcheck = { command = 'true' }\n[agent]\nuser = 'me'\n"
    )
    task = read_harbor(harbor(tmp_path / "f", toml=toml))
    limits = ["network_mode", "cpus", "memory_mb", "storage", "healthcheck", "env"]
    ignored = [*(f"environment.{name}" for name in limits), "agent.user", "artifacts"]
    assert task.info["not_applied"] == ", ".join(ignored)
    silent = read_harbor(harbor(tmp_path / "g", toml="[environment]\nnetwork_mode = 'no-network'\n"))
    assert "not_applied" not in silent.info


def test_variables_of_a_harbor_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests get those of the environment and of the verifier, which come last; of a template only its default, never
    what the variable is here; what has none is missing where it is asked for without."""
    monkeypatch.setenv("SECRET", "secret")
    toml = (
        "[environment]\nenv = { A = '1', B = '${SECRET:-two}', C = 'x${SECRET}' }\n"
        "[verifier]\nenv = { A = '3', D = '${SECRET}' }\n"
    )
    folder = harbor(tmp_path / "f", toml=toml)
    with pytest.raises(TaskRefused, match=r"task.toml: verifier.env.D: takes a variable of your environment"):
        read_harbor(folder)
    task = read_harbor(folder, without_image=True)
    (tests,) = task.rewards
    assert isinstance(tests, HarborTests)
    assert tests.env == {"A": "3", "B": "two", "C": "x${SECRET}"}
    assert "verifier.env.D" in task.info["not_applied"]


def test_marks_of_a_benchmark_are_not_shown(tmp_path: Path) -> None:
    """A canary is for whoever filters training data; a heading stays."""
    folder = harbor(tmp_path / "f")
    (folder / "instruction.md").write_text("<!-- x canary GUID 1 -->\n# canary: 2\n\n# Task\ndo it\n# canary: 3\n")
    assert read_harbor(folder).prompt == "# Task\ndo it\n# canary: 3\n"
    (folder / "instruction.md").write_text("\n# Task\n")
    assert read_harbor(folder).prompt == "\n# Task\n"


@pytest.mark.parametrize(
    ("first", "said"), [("#!/bin/cat", "wrote no reward"), ("#!/usr/bin/env -S bash -u", ""), ("", "")]
)
async def test_who_runs_the_tests(tmp_path: Path, first: str, said: str) -> None:
    """Whoever the script's first line names; bash, where it names nobody."""
    folder = harbor(tmp_path / "f", f"{first}\n[[ $BASH_VERSION ]] && echo 1 > /logs/verifier/reward.txt\n")
    (tmp_path / "work").mkdir()
    (term,) = (await score([HarborTests(folder / "tests")], small(), tmp_path / "work")).head.terms[1:]
    assert term.score == (None if said else 1.0)
    assert said in term.error
