"""The house is as it is drawn."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("runtime", "agents", "workspace")


def test_the_map_names_what_exists() -> None:
    """Every module that ARCHITECTURE.md draws is there."""
    drawn = (ROOT / "docs" / "ARCHITECTURE.md").read_text().partition("```")[2].partition("```")[0]
    floor = ""
    for line in drawn.splitlines():
        if match := re.match(r"(\w+)/", line):
            floor = match[1]
            continue
        if floor not in PACKAGES:
            continue
        for name in re.findall(r"^  (\w+)(/?)", line):
            path = ROOT / floor / name[0]
            assert path.is_dir() or path.with_suffix(".py").is_file(), f"{floor}/{name[0]}"


@pytest.mark.parametrize("name", ["runtime", "agents.tools", "workspace", "runtime.view"])
def test_public_names_exist(name: str) -> None:
    """What a package says it exports is there, without duplicates."""
    module = importlib.import_module(name)
    exported = module.__all__
    assert len(set(exported)) == len(exported)
    for public in exported:
        assert getattr(module, public) is not None


def test_only_one_module_speaks_http_and_none_speaks_asyncio() -> None:
    """httpx is imported in one place of the product, asyncio in none."""
    found = {"httpx": [], "asyncio": []}  # type: dict[str, list[str]]
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for library, places in found.items():
                if re.search(rf"^\s*(import|from) {library}\b", file.read_text(), re.MULTILINE):
                    places.append(str(file.relative_to(ROOT)))
    assert found["httpx"] == ["runtime/engine/_http.py"]
    assert found["asyncio"] == []


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    """`import runtime` brings in no renderer, no HTTP client and no tokenizer before they are used."""
    import subprocess
    import sys

    heavy = ("renderers", "httpx", "tokenizers", "rich", "openai")
    code = f"import sys, runtime; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
