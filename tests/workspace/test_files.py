"""A model's file operations: what they answer, and that nothing leads out of the tree."""

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workspace.errors import FileError, FileMissing, FileRefused
from workspace.files import SEARCH_DEADLINE_S, FileTree
from workspace.layout import RunLayout

OPERATIONS: list[Callable[[FileTree, str], object]] = [
    lambda tree, path: tree.read(path),
    lambda tree, path: tree.list(path),
    lambda tree, path: tree.search("secret", path),
    lambda tree, path: tree.write(path, "overwritten"),
]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    project = tmp_path / "project"
    (project / "ledgers").mkdir(parents=True)
    (project / "ledgers" / "north.txt").write_text("1\n2\n3\n")
    (project / "ledgers" / "south.txt").write_text("4\n5\n")
    (project / "README.md").write_text("two ledgers\n")
    (project / ".git" / "hooks").mkdir(parents=True)
    (project / ".git" / "config").write_text("[core]\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret\n")
    layout = RunLayout(project, "20261122-081501-k3f9")
    layout.notes.mkdir(parents=True)
    (project / ".ramet" / ".gitignore").write_text("*\n")
    layout.task.write_text("add\n")
    return layout


@pytest.fixture
def tree(layout: RunLayout) -> FileTree:
    return FileTree.of_run(layout)


def test_listing_is_sorted_and_hides_the_record(tree: FileTree, layout: RunLayout) -> None:
    """A listing has every file by its whole path, and `.ramet` and `.git` only when the path names them."""
    (tree.root / "ledgers-2").mkdir()
    (tree.root / "ledgers-2" / "a").touch()
    (tree.root / "ledgers" / "link").symlink_to("north.txt")
    listing = tree.list()
    assert listing.paths == ("README.md", "ledgers-2/a", "ledgers/north.txt", "ledgers/south.txt")
    assert list(listing.paths) == sorted(listing.paths)
    assert listing.note == ""
    assert tree.list("ledgers/").paths == tree.list(str(tree.root / "ledgers")).paths == listing.paths[2:]
    assert tree.list("ledgers/south.txt").paths == ("ledgers/south.txt",)
    assert tree.list(".git").paths == (".git/config",)
    assert tree.list(".ramet").paths == (".ramet/.gitignore", f".ramet/{layout.run}/task.md")


def test_a_long_listing_says_how_much_more_there_is(tree: FileTree) -> None:
    """A listing stops at its limit and counts the rest."""
    listing = tree.list(limit=1)
    assert (listing.paths, listing.more, listing.complete) == (("README.md",), 2, True)
    assert listing.note == "[2 more files; list a directory to see those in it]"


def test_a_listing_of_a_very_deep_tree_is_bounded(tree: FileTree) -> None:
    """Directories nested without end cost no more descriptors than the bound; the listing says it is not
    complete.
    """
    deep = tree.root.joinpath(*["d"] * 100)
    deep.mkdir(parents=True)
    (deep / "bottom").touch()
    listing = tree.list("d")
    assert not listing.complete
    assert listing.note == "[at least 0 more files; list a directory to see those in it]"


def test_reading_gives_the_whole_file_or_how_to_read_on(tree: FileTree) -> None:
    """A short file comes whole; a long one in whole lines, with where to go on; past the end is an error."""
    whole = tree.read("ledgers/north.txt")
    assert (whole.text, whole.note, whole.next_offset_lines) == ("1\n2\n3\n", "", None)
    part = tree.read("ledgers/north.txt", offset_lines=1, limit_bytes=3)
    assert (part.text, part.lines, part.next_offset_lines) == ("2\n", 1, 2)
    assert part.note == "[lines 2-2 of ledgers/north.txt, 6 bytes in all; read on with offset_lines=2]"
    assert tree.read("ledgers/north.txt", offset_lines=3).text == ""
    with pytest.raises(FileRefused, match="has only 3 lines"):
        tree.read("ledgers/north.txt", offset_lines=4)
    (tree.root / "empty").touch()
    assert tree.read("empty").text == ""


def test_a_line_longer_than_the_limit_is_cut_between_characters(tree: FileTree) -> None:
    """A line that does not fit is cut without breaking a character, and reading goes on after it."""
    (tree.root / "long").write_text("é" * 100 + "\nend\n")
    cut = tree.read("long", limit_bytes=5)
    assert (cut.text, cut.line_cut, cut.next_offset_lines) == ("éé", True, 1)
    assert "too long to show whole" in cut.note
    assert tree.read("long", offset_lines=1).text == "end\n"


def test_text_is_harmless_and_always_decodes(tree: FileTree) -> None:
    """Bytes that are not UTF-8 and terminal escapes are shown, not passed on, names of files included."""
    (tree.root / "odd").write_bytes(b"\xff\x1b[31mred\r\n")
    assert tree.read("odd").text == "\ufffd␛[31mred\n"
    Path(os.fsdecode(os.fsencode(tree.root) + b"/\x1bname\xff\n")).write_text("needle\x1b\n")
    assert "␛name\ufffd␊" in tree.list().paths
    assert tree.search("needle").lines == ("␛name\ufffd␊:1: needle␛",)


@settings(deadline=None)  # it waits for the disk
@given(
    st.text("aé\n", max_size=40),
    st.integers(1, 12),
)
def test_reading_on_gives_every_line_once(tmp_path_factory: pytest.TempPathFactory, text: str, limit: int) -> None:
    """Following the offsets to the end gives the whole text, where no line is longer than the limit."""
    root = tmp_path_factory.mktemp("tree")
    (root / "f").write_bytes(text.encode())
    tree = FileTree(root)
    parts = [tree.read("f", limit_bytes=limit)]
    while (offset := parts[-1].next_offset_lines) is not None:
        parts.append(tree.read("f", offset_lines=offset, limit_bytes=limit))
        if parts[-1].text == "":
            break
    if not any(part.line_cut for part in parts):
        assert "".join(part.text for part in parts) == text
    assert all(len(part.text.encode()) <= limit for part in parts)


def test_writing_creates_and_replaces(tree: FileTree) -> None:
    """A write makes its directories, says whether the file is new, keeps the old file's mode, leaves nothing
    else.
    """
    written = tree.write("new/dir/script.sh", "#!/bin/sh\n")
    assert (written.path, written.created, written.size_bytes) == ("new/dir/script.sh", True, 10)
    script = tree.root / "new" / "dir" / "script.sh"
    script.chmod(0o755)
    again = tree.write("./new//dir/script.sh", "é")
    assert (again.path, again.created, again.size_bytes) == ("new/dir/script.sh", False, 2)
    assert script.read_text() == "é"
    assert script.stat().st_mode & 0o777 == 0o755
    assert os.listdir(script.parent) == ["script.sh"]
    script.chmod(0o444)
    with pytest.raises(FileRefused, match="read-only"):
        tree.write("new/dir/script.sh", "no")


@pytest.mark.parametrize(
    "path",
    [
        ".ramet/x",
        ".ramet/20261122-081501-k3f9/journal.jsonl",
        ".ramet/20261122-081501-k3f9/notes",
        ".ramet/20261122-081501-k3f9/notes/.git/config",
        ".ramet/20261122-081501-zzzz/notes/x",
        ".git/hooks/pre-commit",
        ".GIT/config",
        "vendor/lib/.git/config",
    ],
)
def test_protected_places_are_not_written(tree: FileTree, path: str) -> None:
    """The run's record and every repository's own files are refused, and no directory is made on the way."""
    with pytest.raises(FileRefused):
        tree.write(path, "x")
    assert not (tree.root / "vendor").exists()


def test_notes_are_written(tree: FileTree, layout: RunLayout) -> None:
    """The agents' notes lie in the run's directory and may be written, and read like everything there."""
    path = layout.relative(layout.notes / "plan" / "a.md")
    assert tree.write(path, "x").created
    assert tree.read(path).text == "x"
    assert tree.read(layout.relative(layout.task)).text == "add\n"


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "path", ["..", "../outside/secret.txt", "ledgers/../../outside/secret.txt", "/etc/passwd", "a\0b", "", "\ud800"]
)
def test_no_path_leads_out(tree: FileTree, operation: Callable[[FileTree, str], object], path: str) -> None:
    """Absolute paths, `..` and names that are none are refused before anything is touched."""
    with pytest.raises(FileRefused):
        operation(tree, path)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("path", ["door/secret.txt", "door", "file", "dangling", "inside/north.txt"])
def test_links_are_not_followed(
    tree: FileTree, tmp_path: Path, operation: Callable[[FileTree, str], object], path: str
) -> None:
    """A link anywhere on the way, to a directory or a file, is refused by name and stays as it is."""
    (tree.root / "door").symlink_to(tmp_path / "outside")
    (tree.root / "file").symlink_to(tmp_path / "outside" / "secret.txt")
    (tree.root / "dangling").symlink_to("nowhere")
    (tree.root / "inside").symlink_to("ledgers")
    with pytest.raises(FileRefused, match="symbolic link"):
        operation(tree, path)
    assert (tmp_path / "outside" / "secret.txt").read_text() == "secret\n"
    assert (tree.root / path.split("/")[0]).is_symlink()


def test_only_regular_files_are_opened(tree: FileTree) -> None:
    """A FIFO without a writer, a socket, a directory: each is refused at once instead of waited for."""
    os.mkfifo(tree.root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree.root / "socket"))
    for path in ("fifo", "socket", "ledgers", "."):
        with pytest.raises(FileRefused):
            tree.read(path)
        with pytest.raises(FileRefused):
            tree.write(path, "x")
    assert tree.search("2").lines == ("ledgers/north.txt:2: 2",)


def test_missing_files_and_bad_names_are_told_apart(tree: FileTree) -> None:
    """A missing file says what to do; a file used as a directory and a name too long are refused as that."""
    with pytest.raises(FileMissing, match=r"no such file: ledgers/x\.txt \(list_files shows what there is\)"):
        tree.read("ledgers/x.txt")
    with pytest.raises(FileMissing):
        tree.list("nowhere")
    with pytest.raises(FileRefused, match="not a directory"):
        tree.read("README.md/x")
    with pytest.raises(FileRefused):
        tree.write("README.md/x", "x")
    with pytest.raises(FileRefused, match="too long"):
        tree.read("x" * 300)
    with pytest.raises(FileRefused, match="valid Unicode"):
        tree.write("x", "\ud800")


def test_a_directory_swapped_for_a_link_meanwhile_leads_nowhere(tree: FileTree, tmp_path: Path) -> None:
    """However a directory and a link to the outside change places during the operations, nothing outside is
    touched.
    """
    real, link, place = tree.root / "real", tree.root / "link", tree.root / "place"
    real.mkdir()
    (real / "secret.txt").write_text("inside\n")
    link.symlink_to(tmp_path / "outside")
    done = threading.Event()

    def swap() -> None:
        for turn in itertools.count():
            if done.is_set():
                return
            for hidden in (real, link):
                # A write that finds nothing in the place makes a directory there.
                with contextlib.suppress(OSError):
                    hidden.rename(place)
                    place.rename(hidden)
                    continue
                place.rename(tree.root / f"made-{turn}-{hidden.name}")

    swapper = threading.Thread(target=swap)
    swapper.start()
    deadline = time.monotonic() + 0.5
    refused = 0
    try:
        while time.monotonic() < deadline:
            try:
                assert tree.read("place/secret.txt").text in ("inside\n", "written")
                tree.write("place/secret.txt", "written")
            except FileError:
                refused += 1
    finally:
        done.set()
        swapper.join()
    assert refused
    assert os.listdir(tmp_path / "outside") == ["secret.txt"]
    assert (tmp_path / "outside" / "secret.txt").read_text() == "secret\n"


def test_search_finds_lines_in_order(tree: FileTree) -> None:
    """A search gives `path:line: text`, skips what is not text, and takes one file as well as a directory."""
    (tree.root / "binary").write_bytes(b"\0two")
    (tree.root / "wide").write_text("x" * 5000 + "two" + "y" * 5000)
    found = tree.search("[Tt]wo|^[25]$")
    assert found.lines[:3] == ("README.md:1: two ledgers", "ledgers/north.txt:2: 2", "ledgers/south.txt:2: 5")
    assert found.lines[3] == f"wide:1: …{'x' * 100}two{'y' * 197}…"
    assert found.note == "[1 binary, unreadable or very large files were skipped]"
    assert tree.search("1", "ledgers/north.txt").lines == ("ledgers/north.txt:1: 1",)
    assert tree.search("core").lines == ()
    assert tree.search("core", ".git").lines == (".git/config:1: [core]",)


def test_search_stops_at_its_limit(tree: FileTree) -> None:
    """Only so many matches are given, and the note says that there are more."""
    (tree.root / "many").write_text("needle\n" * 200_000)
    found = tree.search("needle", limit=3)
    assert len(found.lines) == 3
    assert found.more
    assert "first 3 matches" in found.note
    assert not tree.search("[12]", "ledgers/north.txt", limit=2).more


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x"])
def test_a_pattern_without_end_stops_at_the_deadline(tree: FileTree, pattern: str) -> None:
    """A pattern that backtracks for years is stopped with what was found before, and other threads run
    meanwhile.
    """
    (tree.root / "aa").write_text("x\n" + "a" * 40 + "!\n")
    begun = time.monotonic()
    found = tree.search(f"^x$|{pattern}", deadline_s=0.3)
    assert time.monotonic() - begun < SEARCH_DEADLINE_S / 2
    assert found.timed_out
    assert "aa:1: x" in found.lines or pattern == "(.*)*x"
    assert "time ran out" in found.note


@pytest.mark.parametrize("pattern", ["(", "*", "a{99999999999}", "(" * 5000 + ")" * 5000, "\ud800("])
def test_a_bad_pattern_is_refused(tree: FileTree, pattern: str) -> None:
    """A pattern that does not compile is an error that says why."""
    with pytest.raises(FileRefused, match=r"not a usable regular expression: ."):
        tree.search(pattern)


def test_nothing_stays_open(tree: FileTree) -> None:
    """After every kind of operation, refused ones included, no descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        tree.list()
        tree.read("README.md")
        tree.search("two", limit=1)
        tree.write("deep/er/file", "x")
        for path in (".git/x", "README.md/x", "..", "ledgers"):
            with pytest.raises(FileError):
                tree.write(path, "x")
    assert len(os.listdir("/proc/self/fd")) == before
