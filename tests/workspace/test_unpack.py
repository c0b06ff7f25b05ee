"""Archives of whole file systems: what is kept, and that nothing gets out of the directory."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace import FileError, unpack

BOUNDS = {"most_bytes": 1 << 20, "most_entries": 100}


def archive(*members: tuple[str, bytes | str] | tarfile.TarInfo) -> io.BytesIO:
    """A tar of files (bytes), links (`-> target`), hard links (`= target`) and directories (`/`)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, what = member
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
                continue
            kind, _, info.linkname = what.partition(" ")
            info.type = {"->": tarfile.SYMTYPE, "=": tarfile.LNKTYPE, "/": tarfile.DIRTYPE}[kind]
            tar.addfile(info)
    made.seek(0)
    return made


def special(name: str, kind: bytes, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def test_what_is_kept(tmp_path: Path) -> None:
    """Contents, permissions, times, links of both kinds, absolute ones too; later members replace earlier ones."""
    tool = special("bin/tool", tarfile.REGTYPE, mode=0o4755, mtime=1_600_000_000)
    unpack(
        archive(
            tool,
            ("./etc/a", b"first"),
            ("/etc/a", b"second"),
            ("etc/link", "-> /usr/etc"),
            ("etc/hard", "= etc/a"),
            ("empty", "/"),
            ("etc", "/"),
            special("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
            special("run/pipe", tarfile.FIFOTYPE),
        ),
        tmp_path,
        **BOUNDS,
    )
    status = (tmp_path / "bin" / "tool").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o755, 1_600_000_000)
    assert os.readlink(tmp_path / "etc" / "link") == "/usr/etc"
    assert (tmp_path / "etc" / "hard").read_text() == "second"
    assert (tmp_path / "etc" / "hard").samefile(tmp_path / "etc" / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "dev", "empty", "etc", "run"]
    assert [*(tmp_path / "dev").iterdir(), *(tmp_path / "run").iterdir()] == []


@pytest.mark.parametrize(
    "members",
    [
        [("../out", b"x")],
        [("a/../../out", b"x")],
        [("a", "-> .."), ("a/out", b"x")],
        [("a", "-> {outside}"), ("a/out", b"x")],
        [("a", "-> b"), ("b", "-> .."), ("a/out", b"x")],
        [("a", "= ../secret")],
        [("a", "-> {outside}"), ("b", "= a/secret")],
        [("b", "= ../secret"), ("b", b"x")],
        [("a/b", b"x"), ("a", "= a")],
        [("a", "/"), ("a/b", b"x"), ("a", b"x")],
        [("a", b"x" * (2 << 20))],
        [(str(number), b"") for number in range(101)],
    ],
)
def test_what_is_refused(tmp_path: Path, members: list[tuple[str, bytes | str]]) -> None:
    """Whatever would lead out, whatever is too much: one line, and nothing outside is read or written."""
    outside, target = tmp_path / "outside", tmp_path / "outside" / "in"
    target.mkdir(parents=True)
    (outside / "secret").write_text("untouched")
    spelt = [(name, what.format(outside=outside) if isinstance(what, str) else what) for name, what in members]
    with pytest.raises((FileError, OSError)):
        unpack(archive(*spelt), target, **BOUNDS)
    assert sorted(path.name for path in outside.iterdir()) == ["in", "secret"]
    assert (outside / "secret").read_text() == "untouched"
    assert (outside / "secret").stat().st_nlink == 1


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100, archive(("a", b"x" * 5000)).getvalue()[:2000]])
def test_half_an_archive(tmp_path: Path, data: bytes) -> None:
    """What is cut, or none, is refused."""
    with pytest.raises(FileError, match="no whole archive"):
        unpack(io.BytesIO(data), tmp_path, **BOUNDS)


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "c"]), min_size=1, max_size=4).map("/".join)
MEMBERS = st.tuples(
    NAMES,
    st.one_of(st.binary(max_size=8), st.just("/"), NAMES.map("-> {}".format), NAMES.map("= {}".format)),
)


@given(members=st.lists(MEMBERS, max_size=8))
def test_nothing_is_made_outside(tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes]]) -> None:
    """Whatever names and links an archive has."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "a").write_text("untouched")
    (outside / "in").mkdir()
    with contextlib.suppress(FileError, OSError):
        unpack(archive(*members), outside / "in", **BOUNDS)
    assert sorted(path.name for path in outside.iterdir()) == ["a", "in"]
    assert (outside / "a").read_text() == "untouched"
    assert (outside / "a").stat().st_nlink == 1
