"""What the model can call."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.tools import TOOLS, schema
from runtime.swarm import Swarm
from tests.support import call, scripted
from workspace import Limits, Sandbox


def test_schemas_say_what_the_structs_check() -> None:
    """Every tool has a description, and its schema requires exactly the fields without a default."""
    for name, tool in TOOLS.items():
        function = schema(tool)["function"]
        assert function["name"] == name
        assert len(function["description"]) > 15
        parameters = function["parameters"]
        assert parameters["type"] == "object"
        assert parameters["additionalProperties"] is False
        assert "$ref" not in str(parameters)
        assert set(parameters["properties"]) == set(tool.__struct_fields__)


async def replies(directory: Path, *calls: str, **options: object) -> list[str]:
    """What an agent is told that makes `calls`, one a turn."""
    said = [*calls, call("finish", result="end")]
    engine = scripted(lambda text: said[text.count("<|im_start|>assistant") - 1])
    async with Swarm(engine, directory, **options) as swarm:  # type: ignore[arg-type]
        lead = await swarm.start("t")
        await lead.result()
    told = []
    for segment in reversed(list(lead.state.head.path())):
        if segment.parent is not None and segment.tokens and segment.origin == "given":
            text = swarm.chat.text(segment.tokens).partition("<tool_response>\n")[2].partition("\n</tool_response>")[0]
            told.append(text.rpartition("\n[a1 t")[0])
    return told


@pytest.mark.anyio
async def test_files(tmp_path: Path) -> None:
    """A file that is written can be listed, read and found; writing tells new from replaced."""
    said = await replies(
        tmp_path,
        call("list_files"),
        call("write_file", path="notes/a.txt", text="north 12\nsouth 30\n"),
        call("write_file", path="notes/a.txt", text="north 12\nsouth 31\n"),
        call("list_files", path="notes"),
        call("read_file", path="notes/a.txt"),
        call("read_file", path="notes/a.txt", offset_lines=1),
        call("search", pattern="south \\d+"),
        call("search", pattern="west"),
    )
    assert said == [
        "(no files)",
        "created notes/a.txt (18 bytes)",
        "replaced notes/a.txt (18 bytes)",
        "notes/a.txt",
        "north 12\nsouth 31",
        "south 31",
        "notes/a.txt:2: south 31",
        "(no matches)",
    ]


@pytest.mark.anyio
async def test_a_command_at_a_limit(tmp_path: Path) -> None:
    """The agent is told which limit ended it, where the exit code tells; an error that a program met is its own."""
    said = await replies(
        tmp_path,
        call("shell", command="while :; do :; done"),
        call("shell", command="seq 100000 > big; exit $?"),
        call("shell", command="head -c 64M /dev/zero | tail -n 1 | wc -c"),
        limits=Limits(cpu_s=1, file_bytes=1000, memory_bytes=32 << 20),
    )
    assert said[0] == "[exit code 152: a process used more than 1 s of processor time (--limit cpu)]"
    assert said[1].endswith("[exit code 153: a file would have become larger than 1000 bytes (--limit file)]")
    assert "memory exhausted" in said[2]
    assert "--limit" not in said[2]


@pytest.mark.anyio
async def test_shell(tmp_path: Path) -> None:
    """A command runs in the working directory; its exit code and the path of its cut output are told."""
    assert (await Sandbox(tmp_path).probe()).works
    said = await replies(
        tmp_path,
        call("shell", command="echo hi > made.txt; cat made.txt"),
        call("shell", command="exit 3"),
        call("shell", command="sleep 60", timeout_s=0.2),
        call("shell", command="seq 100000"),
    )
    assert said[0] == "hi"
    assert said[1] == "[exit code 3]"
    assert "[stopped after 0.2 s (timeout_s)]" in said[2]
    shown = said[3].rpartition("[the whole output: ")[2].rstrip("]")
    assert (tmp_path / shown).read_text().endswith("100000\n")
    assert len(said[3]) < 100_000
