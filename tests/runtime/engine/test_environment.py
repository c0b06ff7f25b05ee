"""The engine's environment: when it counts as there, and what an installation never does. (CI runs the real one.)"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

import anyio
import pytest

from runtime.engine import environment
from runtime.engine.base import EngineUnavailable


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the user chose."""
    directory = tmp_path / "engine"
    monkeypatch.setenv("RAMET_ENGINE_DIR", str(directory))
    return directory


def _by_hand(where: Path) -> None:
    (where / "bin").mkdir(parents=True)
    (where / "bin" / "python").touch()
    (where / "lib" / "python3.11" / "site-packages" / "sglang").mkdir(parents=True)


def test_nothing_there(where: Path) -> None:
    """Says where it looked, and what to do."""
    assert not environment.status().installed
    with pytest.raises(EngineUnavailable, match=f"{where}.*ramet engine install"):
        environment.locate()


def test_an_environment_made_by_hand(where: Path) -> None:
    """Is used as it is."""
    _by_hand(where)
    status = environment.status()
    assert (status.installed, status.made_here) == (True, False)
    assert environment.locate().python == where / "bin" / "python"


def test_an_interrupted_installation_is_none(where: Path) -> None:
    """However complete it looks."""
    _by_hand(where)
    where.with_name("engine.unfinished").touch()
    assert not environment.status().installed


def test_what_ramet_did_not_make_is_left_alone(where: Path) -> None:
    """A directory that holds something else is an error, and still holds it."""
    where.mkdir()
    (where / "thesis.txt").write_text("only copy")
    with pytest.raises(EngineUnavailable, match="left alone"):
        anyio.run(environment.install)
    assert (where / "thesis.txt").read_text() == "only copy"


@pytest.mark.anyio
async def test_a_second_installation_waits_for_the_first(where: Path) -> None:
    """It says so, and then finds the work done."""
    where.parent.mkdir(exist_ok=True)
    waiting = anyio.Event()
    made: list[environment.Environment] = []

    async def second() -> None:
        made.append(await environment.install(lambda line: waiting.set() if "waiting" in line else None))

    lock = os.open(where.with_name("engine.lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            await waiting.wait()
            _by_hand(where)
            os.close(lock)
    assert [it.directory for it in made] == [where]


def test_every_cpu_package_is_pinned() -> None:
    """One version each, none of them a CUDA package."""
    pins = list(environment._requirements())
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    names = [pin.partition("==")[0].lower() for pin in pins]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "flashinfer", "sgl-kernel"))]
    assert f"sglang=={environment.SGLANG}" in pins


def test_the_cpu_engine_sees_its_stand_ins_and_none_of_our_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH is the stand-ins' directory alone; with a GPU there is none."""
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("PYTHONHOME", "/ours")
    cpu, gpu = (
        environment.variables(environment.Environment(directory=Path("/e"), kind=kind)) for kind in environment.Kind
    )
    assert (Path(cpu["PYTHONPATH"]) / "sgl_kernel.py").exists()
    assert (Path(cpu["PYTHONPATH"]) / "sitecustomize.py").exists()
    assert "PYTHONHOME" not in cpu
    assert not {name for name in gpu if name.startswith("PYTHON")}
