"""`ramet doctor` and `ramet engine status`."""

from __future__ import annotations

import json
from pathlib import Path

from runtime.cli.doctor import Finding, clash
from tests.runtime.cli.conftest import Ramet


def test_every_check_is_a_line(ramet: Ramet, tmp_path: Path) -> None:
    """Without an engine the doctor says so and what to do, and nothing is missing that it needs."""
    ended = ramet("doctor", "--json", RAMET_ENGINE_DIR=str(tmp_path / "none"))
    assert (ended.returncode, ended.stderr) == (0, "")
    found = {check["name"]: check for check in map(json.loads, ended.stdout.splitlines())}
    assert found["python"]["finding"] == found["packages"]["finding"] == "ok"
    assert found["engine"]["finding"] == "warn"
    assert "ramet engine install" in found["engine"]["remedy"]
    lines = ramet("doctor", RAMET_ENGINE_DIR=str(tmp_path / "none")).stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(found)


def test_images_want_a_builder(ramet: Ramet, tmp_path: Path) -> None:
    """Where there is none the doctor says what is left out; where there is one it counts the images that are kept."""

    def images() -> dict[str, str]:
        said = ramet("doctor", "--json", PATH=str(tmp_path), RAMET_IMAGES_DIR=str(tmp_path / "images")).stdout
        return next(check for check in map(json.loads, said.splitlines()) if check["name"] == "images")

    assert images()["finding"] == "warn"
    assert "install podman" in images()["remedy"]
    (tmp_path / "podman").write_text("#!/bin/sh\n")
    (tmp_path / "podman").chmod(0o755)
    (tmp_path / "images" / "abc").mkdir(parents=True)
    (tmp_path / "images" / ".half").mkdir()
    assert images()["finding"] == "ok"
    assert images()["found"] == f"podman works; 1 kept in {tmp_path / 'images'}"


def test_a_clash_with_openai_agents() -> None:
    """A foreign `agents`, or a distribution that brings one, is a failure that names it."""
    ours = Path("/env/site-packages")
    mine = ours / "agents" / "__init__.py"
    assert clash({"ramet", "typer"}, mine, ours).finding is Finding.OK
    assert "openai-agents" in clash({"openai-agents"}, mine, ours).found
    elsewhere = clash(set(), Path("/other/agents/__init__.py"), ours)
    assert elsewhere.finding is Finding.FAIL
    assert "/other/agents/__init__.py" in elsewhere.found
    assert clash(set(), None, ours).finding is Finding.FAIL


def test_engine_status(ramet: Ramet, tmp_path: Path) -> None:
    """Where no engine is installed the status says where it would be and how to get it, and exits with 1."""
    where = tmp_path / "none"
    ended = ramet("engine", "status", RAMET_ENGINE_DIR=str(where))
    assert ended.returncode == 1
    assert str(where) in ended.stdout
    assert "ramet engine install" in ended.stdout
    now = json.loads(ramet("engine", "status", "--json", RAMET_ENGINE_DIR=str(where)).stdout)
    assert (now["installed"], now["directory"]) == (False, str(where))


def test_a_run_without_an_engine_says_how_to_get_one(ramet: Ramet, tmp_path: Path) -> None:
    """`ramet run` installs nothing by itself: one line, exit 1, and no run is begun."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    ended = ramet("run", "do it", "--model", "./model", cwd=tmp_path, RAMET_ENGINE_DIR=str(tmp_path / "none"))
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "ramet engine install" in line
    assert not (tmp_path / ".ramet").exists()
