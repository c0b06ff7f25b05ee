"""One attacked project for each module: making one takes a while, and each attack leaves it as it was, or fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.hostile.ground import SECRET, Ground


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Attacks are on files, processes and texts: the event loop makes no difference."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def secrets() -> Iterator[None]:
    """An environment with secrets in it, such as the runtime has."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAMET_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "SECRET"):
            patch.setenv(name, SECRET)
        yield


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A project beside files that are nobody's business, with servers on this machine that answer."""
    ground = Ground(Path(tmp_path_factory.mktemp("hostile")))
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        ground.words["port"] = str(tcp.getsockname()[1])
        abstract.bind("\0" + ground.words["abstract"])
        abstract.listen()
        yield ground
        named.close()


@pytest.fixture
def sandboxed(ground: Ground) -> Ground:
    """The same, where a sandbox can be had."""
    probe = anyio.run(ground.shell.probe)
    if not probe.works:
        pytest.skip(f"no sandbox on this system: {probe.reason}")
    return ground
