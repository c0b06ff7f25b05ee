"""`ramet run`, `resume`, `tree` and `stats`, as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from runtime.recorder import load
from tests.runtime.cli.conftest import Ramet, command, environ
from tests.runtime.cli.server import ScriptedServer
from workspace import Limits, RunLayout


def events(output: str) -> list[dict[str, object]]:
    """The events that a command printed."""
    return [json.loads(line) for line in output.splitlines()]


def test_a_run_ends_with_its_result(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """Without a terminal the output is events; the last one has outcome, result and directory; the exit code is 0."""
    ended = ramet("run", "add up", "--dir", project, "--url", server.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    *_, last = told = events(ended.stdout)
    assert (last["event"], last["outcome"], last["result"]) == ("run_ended", "finished", "100")
    assert Path(str(last["dir"])).parent == project / ".ramet"
    assert sum(one["event"] == "agent_started" for one in told) == 5


def test_tree_and_stats_of_a_run(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """The tree shows every agent and its answer, the statistics count them, both from the journal alone."""
    ramet("run", "add up", "--dir", project, "--url", server.url)
    tree = ramet("tree", project)
    assert (tree.returncode, tree.stderr) == (0, "")
    assert "└─ a5 ledgers/l3.txt" in tree.stdout
    assert "│  = 100" in tree.stdout
    nested = json.loads(ramet("tree", "--json", cwd=project).stdout)
    assert [child["result"][:2] for child in nested["agents"][0]["children"]] == ["10", "20", "30", "40"]
    stats = json.loads(ramet("stats", project, "--json").stdout)
    assert (stats["agents"], stats["forks"], stats["outcome"]) == (5, 1, "finished")
    assert stats["prompt_tokens"] == stats["cached_tokens"] + stats["computed_tokens"]
    assert "recompute ratio" in ramet("stats", project).stdout


def test_a_task_from_a_file(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """TASK may be a file: its content is the task."""
    (project / "task.md").write_text("What do the ledgers add up to?\n")
    ended = ramet("run", "task.md", "--url", server.url, "--json", cwd=project)
    assert events(ended.stdout)[1]["task"] == "What do the ledgers add up to?\n"


def test_a_check_decides_whether_it_is_done(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """A result that the command does not pass is sent back, and in the end rejected: exit code 1."""
    options = ("--dir", project, "--url", server.url, "--review-rounds", 1)
    ended = ramet("run", "add up", *options, "--check", "test -f ledgers/l0.txt")
    assert ended.returncode == 0, ended.stderr
    ended = ramet("run", "add up", *options, "--check", "test -f missing")
    assert ended.returncode == 1
    assert events(ended.stdout)[-1]["outcome"] == "rejected"
    why = "Its result was refused once, which is the most (--review-rounds). The last reason:"
    reason = "The check `test -f missing` failed (exit code 1):"
    assert ended.stderr == f"ramet: a1 is rejected. {why}\n{reason}\n"
    assert ramet("resume", project).stderr == ended.stderr
    tree = ramet("tree", project, COLUMNS="200").stdout
    assert f"│  = 100\n│  ! {why} {reason}"[:119] in tree
    assert json.loads(ramet("tree", "--json", project).stdout)["agents"][0]["why"] == f"{why}\n{reason}"


def test_limits_of_commands_hold_again_after_a_crash(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """`--limit` is part of the run: its journal says so, and a run that is resumed has the same."""
    limit = "cpu=7,memory=4G,file=1K,shown=100"
    ramet("run", "add up", "--dir", project, "--url", server.url, "--limit", limit)
    layout = RunLayout.open(project)
    lines = layout.journal.read_bytes().splitlines(keepends=True)
    layout.journal.write_bytes(b"".join(lines[:4]))
    assert ramet("resume", project, "--url", server.url).returncode == 0
    assert load(layout).settings.limits == Limits(cpu_s=7, memory_bytes=4 << 30, file_bytes=1024, shown_bytes=100)


def test_init_writes_a_section_for_later_runs(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """What its agent says stands between the markers of AGENTS.md; again, it is replaced, and nothing else."""
    (project / "AGENTS.md").write_text("Ours.\n")
    for _ in range(2):
        ended = ramet("init", project, "--url", server.url)
        assert (ended.returncode, ended.stderr) == (0, "")
    lines = (project / "AGENTS.md").read_text().splitlines()
    assert [line for line in lines if not line.startswith("<!--")] == ["Ours.", "", "100"]


def test_out_of_budget(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """A budget that runs out is an outcome with an exit code of its own, 3."""
    ended = ramet("run", "add up", "--dir", project, "--url", server.url, "--budget", "turns=2")
    assert (ended.returncode, ended.stderr) == (3, "")
    assert events(ended.stdout)[-1]["outcome"] == "out_of_budget"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on(
    ramet: Ramet, server: ScriptedServer, project: Path, number: signal.Signals
) -> None:
    """A signal leaves the run resumable: exit 130, one line that says how, no traceback; and it then ends well."""
    server.hold_after = 4
    running = subprocess.Popen(
        command("run", "add up", "--dir", project, "--url", server.url),
        env=environ(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        assert server.held.wait(30)
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    first, second = err.splitlines()
    assert first == "ramet: interrupted"
    root = events(out)[-1]["dir"]
    assert second == f"ramet: go on with: ramet resume {root} --url {server.url}"
    assert events(out)[-1]["outcome"] == "interrupted"
    turns = json.loads(ramet("stats", project, "--json").stdout)["turns"]
    server.hold_after = None
    server.released.set()
    ended = ramet("resume", root, "--url", server.url)
    assert ended.returncode == 0, ended.stderr
    told = events(ended.stdout)
    assert (told[0]["event"], told[-1]["result"]) == ("run_resumed", "100")
    whole = json.loads(ramet("stats", project, "--json").stdout)
    assert whole["turns"] == turns + sum(one["event"] == "turn" for one in told) == 12


def test_resuming_what_has_ended_tells_how(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """A run that is over is not run again: its result is told, with its exit code; no engine is needed."""
    ramet("run", "add up", "--dir", project, "--url", server.url)
    journal = next(project.glob(".ramet/*/journal.jsonl"))
    before = journal.read_bytes()
    again = ramet("resume", cwd=project)
    assert (again.returncode, events(again.stdout)[-1]["result"]) == (0, "100")
    assert journal.read_bytes() == before


def test_a_run_in_use_is_left_alone(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """A second process that wants the same run is told so, with exit code 2."""
    server.hold_after = 1
    running = subprocess.Popen(
        command("run", "add up", "--dir", project, "--url", server.url),
        env=environ(project),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with running:
        assert server.held.wait(30)
        second = ramet("resume", project, "--url", server.url)
        running.send_signal(signal.SIGINT)
    assert second.returncode == 2
    assert len(second.stderr.splitlines()) == 1
    assert str(project) in second.stderr
    assert second.stdout == ""


def test_a_reader_that_goes_away_stops_the_run(server: ScriptedServer, project: Path) -> None:
    """When nobody reads the events any more the run stops, resumable, without a traceback."""
    read, write = os.pipe()
    running = subprocess.Popen(
        command("run", "add up", "--dir", project, "--url", server.url),
        env=environ(project),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    os.close(read)
    with running:
        _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "standard output cannot be written" in err
    assert "ramet resume" in err
    assert "Traceback" not in err


def test_a_full_disk_stops_the_run(server: ScriptedServer, project: Path) -> None:
    """A journal that cannot be extended stops the run: exit 1, the reason, and how to go on."""
    limited = ["bash", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$@"', "bash"]
    running = subprocess.run(
        [*limited, *command("run", "add up", "--dir", project, "--url", server.url)],
        env=environ(project),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert running.returncode == 1, running.stderr
    assert "cannot write to the journal" in running.stderr
    assert "ramet resume" in running.stderr
    assert "Traceback" not in running.stderr
