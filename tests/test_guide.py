"""The guide's code runs as it stands, on an engine whose model is a script."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.engine.scripted import ScriptedEngine
from runtime.engine.sglang import SGLang
from tests.runtime.test_family import turns
from tests.runtime.test_onboarding import told_first
from tests.runtime.test_swarm import last_told
from tests.support import call, ledgers, scripted

GUIDE = (Path(__file__).parent.parent / "docs" / "guide.md").read_text()
# Each section's heading, and its code.
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", GUIDE, re.MULTILINE | re.DOTALL))


def counts(text: str) -> str:
    return [call("list_files", path="ledgers"), call("finish", result=str(text.count("ledgers/l")))][turns(text)]


def forked(text: str) -> str:
    if "You are copy" in last_told(text):
        return call("finish", result=re.findall(r"Your task: (.*)", text)[-1])
    return call("wait", until="mail")


def newcomers(text: str) -> str:
    if "You are a copy that answers" in last_told(text):
        return call("finish", result=re.findall(r"The key is (\w+)", text)[0])
    if "You are copy" in text:
        return call("finish", result="did " + re.findall(r"Your task: (.*)", text)[-1])
    if "You are new" in told_first(text):
        return [call("ask", questions=["Which key?"]), call("begin", understanding="rye it is")][turns(text)]
    return call("wait", until="mail")


def prices(text: str) -> str:
    return [call("price", thing="rye"), call("finish", result="".join(re.findall(r"\n(300)\n", text)))][turns(text)]


def checked(text: str) -> str:
    if "You review work" in told_first(text):
        return [call("read_file", path="report.md"), call("verdict", verdict="accept")][turns(text)]
    if "failed (exit code 1)" in last_told(text):
        return call("write_file", path="report.md", text="all is well")
    return call("finish", result="done")


CASES: dict[str, tuple[Callable[[str], str], str]] = {
    "One agent": (counts, "finished 2\n"),
    "Forking from outside": (forked, "Which ledger is the longest?\nWhich one has the most figures?\n1\n"),
    "Newcomers": (
        newcomers,
        "a4: did the north\na5: did the south\n## a2 asks\n\nWhich key?\n\n## a3 answers\n\nrye\n",
    ),
    "A tool of your own": (prices, "300\n"),
    "Work that is checked": (checked, "finished\n"),
}


def test_every_block_has_a_case() -> None:
    """No code in the guide that no test runs."""
    assert SECTIONS.keys() == CASES.keys()
    assert len(SECTIONS) == GUIDE.count("```python")


@pytest.mark.parametrize("section", CASES)
def test_the_code_runs(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block prints what it says; a directory `work` with two ledgers is all it needs."""
    decide, expected = CASES[section]
    (tmp_path / "work").mkdir()
    ledgers(tmp_path / "work", [12, 30])
    monkeypatch.chdir(tmp_path)

    @asynccontextmanager
    async def local(model: str) -> AsyncIterator[ScriptedEngine]:
        yield scripted(decide)

    monkeypatch.setattr(SGLang, "local", local)
    exec(compile(SECTIONS[section], "guide.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.startswith(expected)
