"""`ramet rollout`, as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from runtime.recorder import load
from runtime.rollouts.credit import decision
from runtime.rollouts.schema import read_rollouts, verify
from tests.runtime.cli.conftest import Ramet, command, environ
from tests.runtime.cli.server import ScriptedServer
from workspace import RunLayout


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two tasks about ledgers, graded by their answers."""
    path = tmp_path / "tasks.jsonl"
    with path.open("w") as file:
        for name, figures in (("small", [1, 2]), ("wrong", [3, 4, 5])):
            files = {f"ledgers/l{n}.txt": f"total: {figure}\n" for n, figure in enumerate(figures)}
            answer = "0" if name == "wrong" else str(sum(figures))
            file.write(json.dumps({"id": name, "prompt": "add up", "files": files, "answer": answer}) + "\n")
    return path


def test_a_file_of_rollouts(ramet: Ramet, server: ScriptedServer, tasks: Path, tmp_path: Path) -> None:
    """Each attempt is a whole rollout in the file, in the order of tasks and attempts; the last line of the output
    counts them, names dead groups and says what the trunks are shared by."""
    out = tmp_path / "out.jsonl"
    ended = ramet("rollout", tasks, "--group", 3, "--out", out, "--url", server.url, "--check", "test -d ledgers")
    assert (ended.returncode, ended.stderr) == (0, "")
    rollouts = list(read_rollouts(out))
    assert [(r.head.task, r.head.attempt) for r in rollouts] == [(t, n) for t in ("small", "wrong") for n in range(3)]
    assert [verify(rollout) for rollout in rollouts] == [[]] * 6
    assert [[(t.name, t.score) for t in r.head.terms] for r in rollouts[::3]] == [
        [("correct", 1.0), ("check", 1.0)],
        [("correct", 0.0), ("check", 1.0)],
    ]
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["mean_reward"] == {"small": 2.0, "wrong": 1.0}
    assert said["dead_groups"] == ["small", "wrong"]
    assert said["dead_roles"] == [f"{task}: {role}" for task in ("small", "wrong") for role in ("fork", "root")]
    assert said["dead_forks"] == 6  # what is shared by all tells no branch from another
    assert (said["rollouts"], said["failed"], said["unscored"], said["refused_tasks"]) == (6, 0, 0, 0)
    assert said["unique_tokens"] == sum(len(edge.tokens) for r in rollouts for edge in r.edges) < said["flat_tokens"]


def test_a_bad_task_is_named_and_the_rest_goes_on(
    ramet: Ramet, server: ScriptedServer, tasks: Path, tmp_path: Path
) -> None:
    """One line for each that cannot be used; a group of one is warned of."""
    with tasks.open("a") as file:
        file.write('{"prompt": 3}\n')
    ended = ramet("rollout", tasks, "--group", 1, "--out", tmp_path / "o", "--url", server.url)
    bad, warned = ended.stderr.splitlines()
    assert bad.startswith(f"ramet: {tasks}:3: ")
    assert "$.prompt" in bad
    assert "a group of one" in warned
    assert json.loads(ended.stdout)["refused_tasks"] == 1
    assert len(list(read_rollouts(tmp_path / "o"))) == 2


def test_what_is_typed_counts_over_what_tasks_say(
    ramet: Ramet, server: ScriptedServer, tasks: Path, tmp_path: Path
) -> None:
    """A budget on the command line is that of every attempt, whatever a task brought along; without one, tasks have
    their own."""
    lines = [json.loads(line) | {"settings": {"budget": {"turns": 1}}} for line in tasks.read_text().splitlines()]
    tasks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcomes = []
    for name, options in (("a", ()), ("b", ("--budget", "turns=500"))):
        ended = ramet("rollout", tasks, "--group", 2, "--out", tmp_path / name, "--url", server.url, *options)
        assert ended.returncode == 0, ended.stderr
        outcomes.append({rollout.head.outcome for rollout in read_rollouts(tmp_path / name)})
    assert outcomes == [{"out_of_budget"}, {"finished"}]


def test_in_sequence(ramet: Ramet, server: ScriptedServer, tasks: Path, tmp_path: Path) -> None:
    """The tasks of a project one after the other, and shuffled: slopes for both, and directories that can be kept."""
    out, keep = tmp_path / "out.jsonl", tmp_path / "kept"
    options = ("--group", 1, "--out", out, "--url", server.url, "--keep", keep, "--limit", "cpu=60")
    ended = ramet("rollout", tasks, "--sequential", *options)
    assert ended.returncode == 0, ended.stderr
    assert set(json.loads(ended.stdout)["slope"]) == {"given", "shuffled"}
    heads = [rollout.head for rollout in read_rollouts(out)]
    assert [(head.task, head.info["order"]) for head in heads] == [
        ("small", "given"),
        ("wrong", "given"),
        ("wrong", "shuffled"),
        ("small", "shuffled"),
    ]
    assert sorted(path.name for path in keep.iterdir()) == ["given-00", "shuffled-00"]
    assert {load(RunLayout.open(path)).settings.limits.cpu_s for path in keep.iterdir()} == {60}


def test_decisions_are_replayed(ramet: Ramet, server: ScriptedServer, tasks: Path, tmp_path: Path) -> None:
    """After all others, in the same file and groups, attempts that went on without the fork: those of the task that the
    copies got right earned less, so the decision to fork gets positive credit. The last line counts them apart."""
    out, keep = tmp_path / "out.jsonl", tmp_path / "kept"
    options = ("--group", 2, "--replays", 2, "--budget", "turns=9", "--keep", keep)
    ended = ramet("rollout", tasks, *options, "--out", out, "--url", server.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    rollouts = list(read_rollouts(out))
    assert [(r.head.task, r.head.attempt) for r in rollouts] == [
        *[("small", 0), ("small", 1), ("wrong", 0), ("wrong", 1)],
        *[(name, attempt) for name in ("small", "wrong") for attempt in (2, 3, 4, 5)],
    ]
    assert [verify(rollout) for rollout in rollouts] == [[]] * 12
    assert [rollout.head.error for rollout in rollouts] == [""] * 12
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["mean_reward"] == {"small": 1.0, "wrong": 0.0}
    assert said["replays"]["decisions"] == 4
    assert said["replays"]["attempts"] == 8
    assert set(said["replays"]["mean_value"].values()) == {0.0}
    assert said["replays"]["left"] == {}
    small = [rollout for rollout in rollouts if rollout.head.task == "small"]
    assert [len(credit.spans) for credit in decision(small)] == [1, 1, 0, 0, 0, 0]
    assert all(span.coefficient == 1.0 for credit in decision(small) for span in credit.spans)
    assert sorted(path.name for path in keep.iterdir()) == [
        *(f"000{t}-0{n}" for t in (0, 1) for n in (0, 1)),
        "replays",
    ]


def test_parts_of_tasks(ramet: Ramet, server: ScriptedServer, tasks: Path, tmp_path: Path) -> None:
    """Come after their task in the file, dropped from training; the last line says what they scored and what leaks."""
    out = tmp_path / "out.jsonl"
    options = ("--group", 1, "--partial", "--budget", "turns=9")
    ended = ramet("rollout", tasks, *options, "--out", out, "--url", server.url)
    assert ended.returncode == 0, ended.stderr
    heads = [rollout.head for rollout in read_rollouts(out)]
    parts = ["", "@question", "@no_tools", "@last_sentence"]
    assert [head.group for head in heads] == [f"{task}{part}" for task in ("small", "wrong") for part in parts]
    assert [bool(head.dropped) for head in heads] == [False, True, True, True] * 2
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["partial"] == {
        "mean_score": {"last_sentence": 0.0, "no_tools": 0.0, "question": 0.0},
        "leaks": [],
    }


def test_dead_groups_are_gone_on_from(ramet: Ramet, server: ScriptedServer, tmp_path: Path) -> None:
    """From points where some succeeded, within a budget; what came of it is said, and what could not be."""
    (tmp_path / "mine.py").write_text(
        "from runtime.rollouts import Own, Task\n"
        "files = {f'ledgers/l{n}.txt': f'total: {n}' for n in (1, 2)}\n"
        "one = Own('one', lambda member, _: float(member.result[:2] == '1 ') if member.kind == 'fork' else None)\n"
        "none = Own('none', lambda member, _: 0.0)\n"
        "tasks = [Task(id=i, prompt='add up', files=files, rewards=(r,)) for i, r in (('some', one), ('no', none))]\n"
    )
    out = tmp_path / "out.jsonl"
    line = ("rollout", "mine:tasks", "--group", 2, "--out", out, "--url", server.url, "--revive")
    ended = ramet(*line, 100_000, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    rollouts = list(read_rollouts(out))
    point = rollouts[4].head.info["revives"]
    assert [rollout.head.group for rollout in rollouts[4:]] == [f"some@{point}"] * 2
    revived = json.loads(ended.stdout.splitlines()[-1])["revived"]
    assert revived["still_dead"] == [point]  # the script has no luck
    assert list(revived["values"]) == [point]
    assert revived["left"] == {"no": "there is no point after which only some succeeded"}
    out.unlink()
    ended = ramet(*line, 10, cwd=tmp_path)
    revived = json.loads(ended.stdout.splitlines()[-1])["revived"]
    assert (revived["attempts"], len(revived["left"])) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.jsonl", "--out", "o"], ["TASKS", "missing.jsonl", "no such file"]),
        (["empty.jsonl", "--out", "o"], ["TASKS", "empty.jsonl", "no tasks"]),
        (["bad.jsonl", "--out", "o"], ["TASKS", "bad.jsonl:1", "prompt"]),
        (["story:poem", "--out", "o"], ["TASKS", "survey"]),
        (["story:survey", "--out", "bad.jsonl"], ["--out", "bad.jsonl", "already"]),
        (["story:survey", "--out", "no/such/o"], ["--out", "no such directory"]),
        (["story:survey"], ["--out"]),
        (["story:survey", "--out", "o", "--group", "0"], ["--group"]),
        (["story:survey", "--out", "o", "--url", "localhost:1"], ["--url", "localhost:1"]),
        (["story:survey", "--out", "o", "--budget", "tokens=5"], ["--budget", "'tokens'"]),
        (["story:survey", "--out", "o", "--replays", "2", "--sequential"], ["--replays", "--sequential"]),
        (["story:survey", "--out", "o", "--partial", "--sequential"], ["--partial", "--sequential"]),
        (["story:survey", "--out", "o", "--revive", "2", "--sequential"], ["--revive", "--sequential"]),
        ([".", "--out", "o"], ["TASKS"]),
    ],
)
def test_bad_input(ramet: Ramet, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """One line on standard error, exit code 2, and no file."""
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "bad.jsonl").write_text("{}\n")
    ended = ramet("rollout", *arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    (line,) = ended.stderr.splitlines()
    assert all(word in line for word in words), line
    assert not (tmp_path / "o").exists()


def test_every_attempt_failed(ramet: Ramet, tasks: Path, tmp_path: Path, server: ScriptedServer) -> None:
    """They are in the file, with the reason, and the exit code is 1."""
    with tasks.open("w") as file:
        file.write(json.dumps({"prompt": "x" * 40_000}) + "\n")
    ended = ramet("rollout", tasks, "--group", 2, "--out", tmp_path / "o", "--url", server.url)
    assert ended.returncode == 1, ended
    assert json.loads(ended.stdout)["failed"] == 2
    assert ["does not fit" in rollout.head.error for rollout in read_rollouts(tmp_path / "o")] == [True, True]


def test_an_interrupt_keeps_what_was_done(tasks: Path, tmp_path: Path, server: ScriptedServer) -> None:
    """What had ended is in the file, whole, when the rest is stopped."""
    server.hold_after = 12  # the first attempt at the first task takes 7 generations, with the cache's warming
    out = tmp_path / "o"
    line = command("rollout", tasks, "--group", 2, "--at-once", 1, "--out", out, "--url", server.url)
    with subprocess.Popen(line, env=environ(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert server.held.wait(60)
        os.kill(process.pid, signal.SIGINT)
        server.released.set()
        assert process.wait(60) == 130
    assert [rollout.head.task for rollout in read_rollouts(out)] == ["small"]
