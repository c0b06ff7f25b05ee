"""The command line in a process of its own, and a server for it to talk to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.engine.scripted import text_policy
from tests.runtime.cli.server import ScriptedServer, serving
from tests.support import ledgers, survey, tiny_chat, tiny_model

ROOT = Path(__file__).parents[3]

Ramet = Callable[..., "subprocess.CompletedProcess[str]"]


def command(*arguments: object) -> list[str]:
    """The command line of `ramet`."""
    return [sys.executable, "-m", "runtime.cli", *map(str, arguments)]


def environ(home: Path, **more: str) -> dict[str, str]:
    """An environment in which caches and logs are those of a fresh user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAMET_", "XDG_"))}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "100"} | more


@pytest.fixture
def ramet(tmp_path_factory: pytest.TempPathFactory) -> Ramet:
    """Run `ramet` to its end."""
    home = tmp_path_factory.mktemp("home")

    def run(*arguments: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), env=environ(home, **more), cwd=cwd, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server whose model surveys ledgers."""
    with serving(ScriptedServer(text_policy(tiny_chat(), survey), tiny_model())) as one:
        yield one


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with four ledgers; they add up to 100."""
    ledgers(tmp_path, [10, 20, 30, 40])
    return tmp_path
