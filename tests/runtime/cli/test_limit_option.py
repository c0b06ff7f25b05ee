"""`--limit`: what of `workspace.Limits` people can set, and how."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli._options import read_limits
from runtime.errors import BadInput
from workspace import Limits


def test_every_limit_of_commands_can_be_set() -> None:
    """By its name without the unit; what is not named keeps its default."""
    text = "memory=4G, cpu=600, file=1g, processes=200, tmp=256M, shown=8K, kept=1048576"
    read = read_limits(text)
    assert read == Limits(
        memory_bytes=4 << 30,
        cpu_s=600,
        file_bytes=1 << 30,
        processes=200,
        tmp_bytes=256 << 20,
        shown_bytes=8192,
        kept_bytes=1 << 20,
    )
    assert len(text.split(",")) == len(msgspec.structs.fields(Limits))
    assert read_limits("cpu=5") == Limits(cpu_s=5)
    assert read_limits("") == Limits()


@pytest.mark.parametrize("text", ["cpu=5s", "cpu=1.5", "cpu=²", "memory=K", "memory=4GiB", "memory=none", "cpu==1"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """The line names the option and the field."""
    with pytest.raises(BadInput, match=f"--limit: {text.partition('=')[0]} must be"):
        read_limits(text)


NAMES = st.sampled_from(["memory", "cpu", "file", "processes", "tmp", "shown", "kept", "disk", ""])
PARTS = st.tuples(NAMES, st.sampled_from(["=", "", " = "]), st.from_regex(r"[0-9]{0,25}[KMGkmgx .-]?", fullmatch=True))


@given(st.one_of(st.text(max_size=40), st.lists(PARTS.map("".join), max_size=4).map(",".join)))
def test_whatever_is_typed_is_limits_or_one_line(text: str) -> None:
    """Every limit that is read can be held: none is zero, and none is more than a kernel takes."""
    try:
        read = read_limits(text)
    except BadInput as refusal:
        said = str(refusal)
    else:
        said = "--limit: read"
        assert all(0 < value < 2**62 for value in msgspec.structs.astuple(read))
    assert said.startswith("--limit: ")
