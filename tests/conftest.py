"""Fixtures that several test packages share: one real SGLang server for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from runtime.engine.base import EngineUnavailable
from runtime.engine.environment import locate
from runtime.engine.server import SEEDLING, Server, ServerOptions, managed_server
from tests.runtime.engine.random_model import write_random_model

# Small enough that tests can fill it, large enough that those who do not care never do.
SERVER = ServerOptions(pool_tokens=16_384, running_requests=32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A real server shares its cores with whatever else the machine does: its tests may take five minutes."""
    for item in items:
        if item.get_closest_marker("engine"):
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def served_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seedling where there is one, else a model of the same architecture with random weights."""
    if (SEEDLING / "model.safetensors").exists():
        return SEEDLING
    return write_random_model(tmp_path_factory.mktemp("model") / "random")


@pytest.fixture(scope="session")
def sglang_server(served_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server, started once (half a minute) and shared; mark tests that use it `engine`."""
    try:
        environment = locate()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    log = tmp_path_factory.mktemp("server") / "server.log"
    server = managed_server(str(served_model), SERVER, log=log, environment=environment)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(server) as running:
        yield running
