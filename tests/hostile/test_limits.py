"""`docs/limits.md` says what is so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import msgspec
import pytest
from typer.main import get_command

from runtime.cli._app import app

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "limits.md").read_text().splitlines()
    if re.match(r"\|[^|]+\| `", line)
]
SOURCES = "".join(
    path.read_text() for floor in ("runtime", "agents", "workspace") for path in (ROOT / floor).rglob("*.py")
)


def test_the_table_is_read() -> None:
    """A table that nobody could read would prove nothing."""
    assert len(ROWS) > 30
    assert all(len(row) == 5 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].strip("`"))
def test_a_limit_is_what_it_is_said_to_be(row: list[str]) -> None:
    """Its name exists with this value, its flag is an option, and its message stands in the code."""
    _, name, default, flag, said = row
    assert value_of(name.strip("`")) == (None if default == "none" else float(default))
    if flag:
        options = {option for parameter in get_command(app).commands["run"].params for option in parameter.opts}  # type: ignore[attr-defined]
        assert flag.strip("`") in options
    for sentence in re.findall(r"`([^`]+)`", said):
        assert sentence in SOURCES


def value_of(name: str) -> object:
    """The value of a constant of a module, or the default of a field of a struct in one."""
    owner, _, last = name.rpartition(".")
    try:
        return getattr(importlib.import_module(owner), last)
    except ModuleNotFoundError:
        module, _, struct = owner.rpartition(".")
        fields = msgspec.structs.fields(getattr(importlib.import_module(module), struct))
        (default,) = (field.default for field in fields if field.name == last)
        return default
