"""`ramet watch`, beside a run of another process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from runtime.recorder import Follower, records
from runtime.swarm import Swarm
from tests.runtime.cli.conftest import Ramet, command, environ
from tests.runtime.cli.server import ScriptedServer
from tests.support import scripted, survey
from workspace import RunLayout


def test_watching_a_run_to_its_end(ramet: Ramet, server: ScriptedServer, project: Path, tmp_path: Path) -> None:
    """It tells what was and what comes, and ends when the run does."""
    server.hold_after = 2
    runs = subprocess.Popen(
        command("run", "add up", "--dir", project, "--url", server.url),
        env=environ(tmp_path / "home"),
        stdout=subprocess.DEVNULL,
    )
    try:
        assert server.held.wait(60)
        with subprocess.Popen(
            command("watch", project), env=environ(tmp_path / "home"), stdout=subprocess.PIPE, text=True
        ) as watches:
            assert watches.stdout is not None
            first = json.loads(watches.stdout.readline())
            assert first["event"] == "run_started"
            server.released.set()
            *_, last = (json.loads(line) for line in watches.stdout)
        assert watches.returncode == 0
        assert (last["event"], last["result"]) == ("run_ended", "100")
    finally:
        server.released.set()
        runs.wait(60)


def test_an_ended_run_and_an_unknown_agent(ramet: Ramet, server: ScriptedServer, project: Path) -> None:
    """What has ended is told at once; an agent that is not there is one line and exit code 2."""
    ramet("run", "add up", "--dir", project, "--url", server.url)
    watched = ramet("watch", project)
    assert (watched.returncode, json.loads(watched.stdout.splitlines()[-1])["outcome"]) == (0, "finished")
    refused = ramet("watch", project, "--agent", "a99")
    assert refused.returncode == 2
    assert refused.stderr.startswith("ramet: --agent: no agent 'a99'; there are a1, ")


async def follow(directory: Path) -> tuple[list[object], RunLayout]:
    """What a follower sees that looks after every record."""
    seen: list[object] = []
    followers: list[Follower] = []

    def look(_: object) -> None:
        if not followers:
            followers.append(Follower(swarm.layout))
        seen.extend(followers[0].new())

    async with Swarm(scripted(survey), directory, observers=[look]) as swarm:
        await (await swarm.start("add up")).result()
    look(None)
    return seen, swarm.layout


def test_a_follower_sees_each_record_once(project: Path) -> None:
    """However often it looks, together it has seen the journal."""
    import anyio

    seen, layout = anyio.run(follow, project)
    assert seen == list(records(layout))
