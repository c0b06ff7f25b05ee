"""Isolated copies: they begin as the directory is, merge back without losing anything, and leave no trace."""

import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from workspace import FileTree, RunLayout, Sandbox, branches
from workspace._entries import Entry, Kind
from workspace._merge import Action, decide, leads_out
from workspace.errors import BranchFailed, BranchMissing, FileRefused

RUN = "20261122-081501-k3f9"
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.com")
TEXT = "".join(f"line {n}\n" for n in range(20))
ODD = os.fsdecode(b"odd \xff\n\x1bname")


def git(directory: Path, *arguments: str) -> str:
    command = ["git", *IDENTITY, *arguments]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout


def begin(project: Path) -> RunLayout:
    layout = RunLayout(project.resolve(), RUN)
    layout.notes.mkdir(parents=True)
    layout.agents.mkdir()
    (project / ".ramet" / ".gitignore").write_text("*\n")
    return layout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with one file of each kind."""
    return fill(tmp_path / "project")


@pytest.fixture
def repository(tmp_path: Path, prepared: Path) -> Path:
    """The same as a repository with staged, unstaged, untracked and ignored files, and something stashed."""
    made: Path = shutil.copytree(prepared, tmp_path / "project", symlinks=True)
    return made


def fill(project: Path) -> Path:
    (project / "sub" / "deep").mkdir(parents=True)
    (project / "a.txt").write_text(TEXT)
    (project / "sub" / "b.txt").write_text("b\n")
    (project / "sub" / "deep" / "c.bin").write_bytes(b"\0\1\2")
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    (project / "link").symlink_to("sub/b.txt")
    (project / ODD).write_text("odd\n")
    return project


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: it takes a dozen processes."""
    project = fill(tmp_path_factory.mktemp("prepared") / "project")
    (project / ".gitignore").write_text("*.log\ncache/\n")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "first")
    (project / "stashed").write_text("s\n")
    git(project, "add", "stashed")
    git(project, "stash", "-q")
    (project / "staged").write_text("staged\n")
    git(project, "add", "staged")
    (project / "a.txt").write_text(TEXT.replace("line 3\n", "line three\n"))
    (project / "untracked").write_text("untracked\n")
    (project / "noise.log").write_text("noise\n")
    (project / "cache").mkdir()
    (project / "cache" / "x").write_text("x\n")
    (project / "sub" / "b.txt").unlink()
    return project


@pytest.fixture(params=["project", "repository"])
def either(request: pytest.FixtureRequest) -> Path:
    """The directory, plain and as a repository."""
    made: Path = request.getfixturevalue(request.param)
    return made


def tree(directory: Path) -> dict[str, tuple[str, str | bytes]]:
    """All there is below `directory` but what is git's and ours, to compare."""
    found: dict[str, tuple[str, str | bytes]] = {}
    for above, names, files in os.walk(directory):
        names[:] = [name for name in names if name not in (".git", ".ramet")]
        for name in files + [name for name in names if Path(above, name).is_symlink()]:
            path = Path(above, name)
            if name == ".git":
                continue
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                found[str(path.relative_to(directory))] = ("link", os.readlink(path))
            else:
                found[str(path.relative_to(directory))] = (oct(stat.S_IMODE(mode)), path.read_bytes())
    return found


def git_state(project: Path) -> dict[str, str]:
    """All of a repository that is the user's: nothing here may change by itself."""
    index = hashlib.sha256((project / ".git" / "index").read_bytes()).hexdigest()
    head = (project / ".git" / "HEAD").read_text()
    queries = ["stash list", "for-each-ref", "worktree list --porcelain", "reflog", "config --list --local"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=project, env=environment, check=True, capture_output=True, text=True
    ).stdout
    files = sorted(path.name for path in (project / ".git").iterdir())
    asked = {query: git(project, *query.split()) for query in queries}
    return {"index": index, "head": head, "status": status, "files": str(files), **asked}


# -- making ---------------------------------------------------------------------------------------------------


def test_a_copy_of_a_directory_is_the_same(project: Path) -> None:
    """A plain directory is copied whole, with modes and links, but for the record; special files are named."""
    layout = begin(project)
    (project / "empty").mkdir()
    os.mkfifo(project / "fifo")
    made = branches.branch(layout, "a1", project)
    assert made.how in ("reflink", "copy")
    assert made.directory == layout.work("a1")
    (project / "fifo").unlink()
    assert tree(made.directory) == tree(project)
    assert (made.directory / "empty").is_dir()
    assert os.listdir(made.directory / ".ramet") == []
    assert made.left_out == ("fifo",)
    assert branches.changes(made).changes == ()
    assert layout.patch("a1").read_text() == ""
    assert branches.open_branch(layout, "a1") == made == branches.branch(layout, "a1", project)


def test_a_copy_of_a_repository_is_a_work_tree(repository: Path) -> None:
    """It has every file as it is now, uncommitted ones too, but not what git ignores; git works in it."""
    layout = begin(repository)
    made = branches.branch(layout, "a1", repository)
    expected = {path: entry for path, entry in tree(repository).items() if path not in ("noise.log", "cache/x")}
    assert made.how == "git worktree"
    assert made.readable == (repository / ".git",)
    assert tree(made.directory) == expected
    assert branches.changes(made).changes == ()
    assert git(made.directory, "status", "--porcelain").splitlines() == [
        " M a.txt",
        " D sub/b.txt",
        "?? staged",
        "?? untracked",
    ]
    with_ignored = branches.branch(layout, "a2", repository, ignored=True)
    assert tree(with_ignored.directory) == tree(repository)
    (with_ignored.directory / "noise.log").write_text("more\n")
    assert branches.changes(with_ignored).changes == ()


def test_the_users_repository_is_left_alone(repository: Path) -> None:
    """Making, merging and removing copies changes nothing of the repository but the files that were merged."""
    layout = begin(repository)
    before = git_state(repository)
    one, two = (branches.branch(layout, agent, repository) for agent in ("a1", "a2"))
    nested = branches.branch(layout, "a3", one.directory)
    assert nested.how == "git worktree"
    (nested.directory / "untracked").write_text("changed\n")
    (nested.directory / "a.txt").write_text("no\n")
    assert branches.merge(nested, one.directory).conflicts == ()
    (repository / "a.txt").write_text(TEXT)
    assert branches.merge(one, repository).applied == ("untracked",)
    (repository / "a.txt").write_text(TEXT.replace("line 3\n", "line three\n"))
    (repository / "untracked").write_text("untracked\n")
    for agent in ("a1", "a2", "a3", "a3", "never-made"):
        branches.remove(layout, agent)
        assert not layout.work(agent).exists()
    assert two.directory != one.directory
    assert git_state(repository) == before


def test_a_tracked_file_may_have_become_a_directory(repository: Path) -> None:
    """A directory where the index has a file is no reason for a plain copy."""
    (repository / "run.sh").unlink()
    (repository / "run.sh").mkdir()
    (repository / "run.sh" / "x").write_text("x\n")
    made = branches.branch(begin(repository), "a1", repository)
    assert made.how == "git worktree"
    assert (made.directory / "run.sh" / "x").read_text() == "x\n"
    assert made.left_out == ()
    assert branches.changes(made).changes == ()


@pytest.mark.parametrize("oddity", ["no commit", "bare", "nested repository", "below the top", "link", "no git"])
def test_odd_repositories_are_copied_plainly(
    repository: Path, tmp_path: Path, oddity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a work tree cannot be had the copy is a plain one, of all files, without the repository."""
    if oddity == "no commit":
        shutil.rmtree(repository / ".git")
        git(repository, "init", "-q")
    elif oddity == "bare":
        git(repository, "config", "core.bare", "true")
    elif oddity == "nested repository":
        git(repository, "init", "-q", "vendor")
        (repository / "vendor" / "v").write_text("v\n")
    elif oddity == "below the top":
        repository = repository / "sub"
    elif oddity == "link":
        (repository / ".git").rename(tmp_path / "elsewhere")
        (repository / ".git").symlink_to(tmp_path / "elsewhere")
    else:
        tools = tmp_path / "bin"
        tools.mkdir()
        monkeypatch.setenv("PATH", str(tools))
    layout = begin(repository)
    made = branches.branch(layout, "a1", repository)
    assert made.how in ("reflink", "copy")
    assert made.readable == ()
    assert tree(made.directory) == tree(repository)
    assert not list(made.directory.rglob(".git"))
    (made.directory / "new").write_text("new\n")
    patch = branches.changes(made)
    assert patch.summary == "1 file changed: added new"
    assert ("git is not installed" in patch.path.read_text()) == (oddity == "no git")
    assert branches.merge(made, repository).applied == ("new",)


def test_nothing_of_a_hostile_repository_runs(repository: Path, tmp_path: Path) -> None:
    """Hooks, filters and file system monitors that a repository configures do not run, whatever is done with it."""
    layout = begin(repository)
    ran = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\necho $0 $* >> {ran}\ncat\n")
    evil.chmod(0o755)
    for hook in ("post-checkout", "post-index-change", "reference-transaction"):
        (repository / ".git" / "hooks").mkdir(exist_ok=True)
        shutil.copy(evil, repository / ".git" / "hooks" / hook)
    keys = [
        "core.fsmonitor",
        "filter.x.clean",
        "filter.x.smudge",
        "diff.external",
        "diff.x.textconv",
        "merge.x.driver",
    ]
    for key in keys:
        git(repository, "config", key, str(evil))
    (repository / ".gitattributes").write_text("* filter=x diff=x merge=x\n")
    ran.unlink(missing_ok=True)
    made = branches.branch(layout, "a1", repository)
    assert made.how == "git worktree"
    (made.directory / "a.txt").write_text("theirs\n")
    (made.directory / "untracked").write_text("theirs\n")
    (repository / "a.txt").write_text("ours\n")
    branches.changes(made)
    branches.merge(made, repository)
    branches.remove(layout, "a1")
    assert not ran.exists()


def test_copies_can_be_made_at_once(repository: Path) -> None:
    """Copies that are made and removed by several threads at the same time do not disturb each other."""
    layout = begin(repository)
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda n: branches.branch(layout, f"a{n}", repository), range(6)))
        for one in made:
            assert branches.changes(one).changes == ()
        list(threads.map(lambda n: branches.remove(layout, f"a{n}"), range(6)))
    assert {one.how for one in made} == {"git worktree"}
    assert git(repository, "worktree", "list").count("\n") == 1


def test_an_interrupted_copy_is_made_again(repository: Path) -> None:
    """Killed at some moment of the making, there is no copy; making it again gives a whole one."""
    layout = begin(repository)
    for number in range(300):
        (repository / f"f{number}").write_text(f"{number}\n")
    expected = {path: entry for path, entry in tree(repository).items() if path not in ("noise.log", "cache/x")}
    code = (
        "import sys; from pathlib import Path; from workspace import RunLayout, branches\n"
        "layout = RunLayout(Path(sys.argv[1]), sys.argv[2])\n"
        "print('go', flush=True); branches.branch(layout, 'a1', layout.directory)"
    )
    interrupted = 0
    for delay_s in (0.01, 0.08):
        child = subprocess.Popen([sys.executable, "-c", code, repository, RUN], stdout=subprocess.PIPE)
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(delay_s)  # the moment of a kill is not to be synchronised
            child.send_signal(signal.SIGKILL)
        try:
            branches.open_branch(layout, "a1")
        except BranchMissing:
            interrupted += 1
        made = branches.branch(layout, "a1", repository)
        assert tree(made.directory) == expected
        assert branches.changes(made).changes == ()
        branches.remove(layout, "a1")
    assert interrupted
    assert git(repository, "worktree", "list").count("\n") == 1


def test_what_a_model_left_can_be_removed(project: Path) -> None:
    """A thousand nested directories and unreadable modes do not keep a copy from being removed."""
    layout = begin(project)
    made = branches.branch(layout, "a1", project)
    inner = os.open(made.directory, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=inner)
        below = os.open("d", os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = below
    os.close(inner)
    (made.directory / "sub").chmod(0)
    with pytest.raises(BranchFailed, match="too deep"):
        branches.changes(made)
    branches.remove(layout, "a1")
    assert not made.directory.exists()
    with pytest.raises(BranchMissing):
        branches.open_branch(layout, "a1")
    with pytest.raises(BranchFailed, match="cannot be opened"):
        branches.branch(layout, "a1", project / "nowhere")


# -- changes and merges ---------------------------------------------------------------------------------------


def edit_everything(directory: Path) -> None:
    (directory / "a.txt").write_text((directory / "a.txt").read_text().replace("line 15\n", "line fifteen\n"))
    (directory / "sub" / "deep" / "c.bin").write_bytes(b"\0\1\3")
    (directory / "run.sh").chmod(0o644)
    (directory / "link").unlink()
    (directory / "link").symlink_to("run.sh")
    (directory / ODD).unlink()
    (directory / "new dir" / "x").mkdir(parents=True)
    (directory / "new dir" / "x" / "n.sh").write_text("n\n")
    (directory / "new dir" / "x" / "n.sh").chmod(0o755)


def test_changes_are_listed_and_written_as_a_patch(either: Path) -> None:
    """Every change is named, and the patch is one that `git apply` takes, but for binary files."""
    layout = begin(either)
    made = branches.branch(layout, "a1", either)
    edit_everything(made.directory)
    patch = branches.changes(made)
    assert {change.path: change.change for change in patch.changes} == {
        "a.txt": "modified",
        "link": "modified",
        "new dir/x/n.sh": "added",
        "odd \ufffd␊␛name": "deleted",
        "run.sh": "modified",
        "sub/deep/c.bin": "modified",
    }
    assert patch.summary.startswith("6 files changed: modified a.txt, modified link, added new dir/x/n.sh, ")
    text = patch.path.read_text()
    assert "\n-line 15\n+line fifteen\n" in text
    assert "Binary files a/sub/deep/c.bin and b/sub/deep/c.bin differ" in text
    assert "old mode 100755\nnew mode 100644" in text
    assert os.listdir(layout.agent("a1")).count("changes.patch") == 1
    assert not list(layout.agent("a1").glob(".scratch-*"))
    subprocess.run(
        ["git", "apply", "--exclude=sub/deep/c.bin", str(patch.path)], cwd=either, check=True, capture_output=True
    )
    assert (either / "new dir" / "x" / "n.sh").stat().st_mode & 0o111


def test_a_merge_brings_every_change_and_keeps_the_others(either: Path) -> None:
    """Changes on both sides, also in one file, end up together; merging again does nothing."""
    layout = begin(either)
    made = branches.branch(layout, "a1", either)
    edit_everything(made.directory)
    ours = (either / "a.txt").read_text()
    (either / "a.txt").write_text(ours.replace("line 1\n", "line one\n"))
    (either / "a.txt").chmod(0o600)
    (either / "own").write_text("own\n")
    merged = branches.merge(made, either)
    assert merged.conflicts == ()
    assert len(merged.applied) == 6
    assert (either / "a.txt").read_text() == ours.replace("line 1\n", "line one\n").replace(
        "line 15\n", "line fifteen\n"
    )
    assert (either / "a.txt").stat().st_mode & 0o777 == 0o600
    assert not (either / "run.sh").stat().st_mode & 0o111
    assert (either / "new dir" / "x" / "n.sh").stat().st_mode & 0o100
    assert os.readlink(either / "link") == "run.sh"
    assert not os.path.lexists(either / ODD)
    assert (either / "own").read_text() == "own\n"
    after = tree(either)
    assert branches.merge(made, either).summary == "0 files changed"
    assert tree(either) == after
    # What was merged is the past of both from then on: only what is new comes the next time.
    (either / "run.sh").write_text("ours again\n")
    (made.directory / "own").write_text("own\n")
    (made.directory / "later").write_text("later\n")
    assert branches.merge(made, either).applied == ("later",)


def test_conflicts_leave_everything_as_it_is(either: Path) -> None:
    """Edits against edits, deletions, directories and files of both sides: all are told, with both sides."""
    (either / "gone").write_text("gone\n")
    (either / "kept").write_text("kept\n")
    layout = begin(either)
    made = branches.branch(layout, "a1", either)
    here, there = either, made.directory
    for side, word in ((here, "ours"), (there, "theirs")):
        (side / "a.txt").write_text(TEXT.replace("line 7\n", f"line {word}\n"))
        (side / "both").write_text(f"{word}\n")
        (side / "sub" / "deep" / "c.bin").write_bytes(b"\0" + word.encode())
        (side / "link").unlink()
        (side / "link").symlink_to(word)
    (here / "gone").unlink()
    (there / "gone").write_text("gone?\n")
    (there / "kept").unlink()
    (here / "kept").write_text("kept!\n")
    (here / "way").write_text("a file\n")
    (there / "way").mkdir()
    (there / "way" / "in").write_text("below it\n")
    (there / "fine").write_text("fine\n")
    before = tree(here)
    merged = branches.merge(made, here)
    assert tree(here) == {**before, "fine": tree(there)["fine"]}
    assert merged.applied == ("fine",)
    found = {conflict.path: conflict for conflict in merged.conflicts}
    assert set(found) == {"a.txt", "both", "gone", "kept", "link", "sub/deep/c.bin", "way/in"}
    text = found["a.txt"].text
    assert "<<<<<<< the working directory\nline ours\n" in text
    assert "=======\nline theirs\n>>>>>>> a1's copy\n" in text
    assert found["a.txt"].file == layout.conflicts("a1") / "1.txt"
    assert found["a.txt"].file.read_text() == text
    assert "<<<<<<< the working directory (deleted)\n" in found["gone"].text
    assert "gone?\n>>>>>>> a1's copy" in found["gone"].text
    assert ">>>>>>> a1's copy (deleted)\n" in found["kept"].text
    assert found["way/in"].reason == "way is no directory in the working directory"
    binary = found["sub/deep/c.bin"]
    assert binary.file is not None
    assert binary.file.read_bytes() == b"\0theirs"
    assert "- a.txt: both sides changed it\n" in merged.summary
    again = branches.merge(made, here)
    assert [conflict.path for conflict in again.conflicts] == list(found)
    assert again.applied == ()


def test_files_and_directories_change_places(either: Path) -> None:
    """A file that became a directory, and the other way round, is merged where nothing else is in the way."""
    layout = begin(either)
    made = branches.branch(layout, "a1", either)
    there = made.directory
    (there / "run.sh").unlink()
    (there / "run.sh").mkdir()
    (there / "run.sh" / "inner").write_text("inner\n")
    shutil.rmtree(there / "sub")
    (there / "sub").write_text("a file now\n")
    (either / "sub" / "own").write_text("own\n")
    merged = branches.merge(made, either)
    assert (either / "run.sh" / "inner").read_text() == "inner\n"
    assert (either / "sub" / "deep" / "c.bin").read_bytes() == b"\0\1\2"
    assert {conflict.path for conflict in merged.conflicts} >= {"sub", "sub/deep/c.bin"}
    (either / "sub" / "own").unlink()
    assert branches.merge(made, either).conflicts == ()
    assert (either / "sub").read_text() == "a file now\n"


def test_links_and_special_names_lead_nowhere(either: Path, tmp_path: Path) -> None:
    """Links out of the tree are refused, links in the way are not followed, `.git` and `.ramet` are never written."""
    (either / "held").mkdir()
    (either / "held" / "f").write_text("f\n")
    layout = begin(either)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("outside\n")
    made = branches.branch(layout, "a1", either)
    there = made.directory
    (there / "out").symlink_to(outside)
    (there / "sub" / "up").symlink_to("../..")
    (there / "sub" / "record").symlink_to("../.ramet")
    (there / "ok").symlink_to("sub/deep")
    (there / "held" / "f").write_text("changed\n")
    (there / "held" / "g").write_text("g\n")
    for hidden in ("sub/.git/hooks/post-checkout", "sub/.GIT/config", ".ramet/x", "sub/.ramet/y"):
        (there / hidden).parent.mkdir(parents=True, exist_ok=True)
        (there / hidden).write_text("evil\n")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(there)
        listener.bind("socket")
        os.chdir(here)
    shutil.rmtree(either / "held")
    (either / "held").symlink_to(outside)
    merged = branches.merge(made, either)
    assert merged.applied == ("ok",)
    assert {conflict.path for conflict in merged.conflicts} == {"held/f", "held/g", "out", "sub/record", "sub/up"}
    assert tree(outside) == {"f": ("0o644", b"outside\n")}
    assert not (either / "sub" / ".git").exists()
    assert not (either / "sub" / ".ramet").exists()
    assert sorted(os.listdir(either / ".ramet")) == [".gitignore", RUN]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_not_taken_for_deleted(either: Path) -> None:
    """A file without permission in the copy is in conflict, and stays where it is in the parent's directory."""
    layout = begin(either)
    made = branches.branch(layout, "a1", either)
    (made.directory / "run.sh").chmod(0)
    (made.directory / "sub").chmod(0)
    merged = branches.merge(made, either)
    assert {conflict.reason for conflict in merged.conflicts} == {"it cannot be read in the copy"}
    assert merged.applied == ()


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("l", "f", False),
        ("l", "d/f", False),
        ("d/l", "../f", False),
        ("d/e/l", "../../x/y", False),
        ("l", "/etc/passwd", True),
        ("l", "..", True),
        ("d/l", "../../f", True),
        ("l", "d/../../f", True),
        ("l", "d/../f", True),
        ("l", ".git/hooks", True),
        ("d/l", "../.RAMET/x", True),
    ],
)
def test_links_that_could_lead_out(path: str, target: str, out: bool) -> None:
    """Absolute targets, too many `..`, and any `..` behind a name that may itself be a link."""
    assert leads_out(path, target) == out


SIDES = st.one_of(
    st.none(),
    st.builds(Entry, st.just(Kind.FILE), st.sampled_from("xyz"), st.booleans()),
    st.builds(Entry, st.just(Kind.LINK), st.sampled_from("xyz")),
)


@given(SIDES, SIDES, SIDES)
def test_decisions_favour_no_side(base: Entry | None, ours: Entry | None, theirs: Entry | None) -> None:
    """A side that changed nothing loses nothing and wins nothing; two sides that agree are left."""
    action = decide(base, ours, theirs)
    mirrored = decide(base, theirs, ours)
    assert (action in (Action.NOTHING, Action.TAKE)) == (mirrored in (Action.NOTHING, Action.TAKE))
    assert (action is Action.NOTHING) == (theirs in (ours, base))
    assert (action is Action.TAKE) == (ours == base and theirs != base)


# Names that collide as file and directory on purpose; texts whose lines can be changed apart.
NAMES = st.sampled_from(["a", "b", "d", "d/x", "d/y", "e/f/g", "a/b"])
EDITS = st.dictionaries(
    NAMES,
    st.one_of(st.none(), st.tuples(st.integers(0, 5), st.sampled_from(["A\n", "B\n", ""]), st.booleans())),
    max_size=4,
)


def apply(directory: Path, edits: dict[str, Any]) -> None:
    """Bring a tree into some state, whatever stands in the way."""
    for name, edit in edits.items():
        path = directory / name
        if edit is None:
            if path.is_dir():
                shutil.rmtree(path)
            elif path.parent.is_dir():
                path.unlink(missing_ok=True)
            continue
        for above in list(path.relative_to(directory).parents)[-2::-1]:
            if (directory / above).is_file():
                (directory / above).unlink()
            (directory / above).mkdir(exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        line, text, executable = edit
        lines = path.read_text().splitlines(keepends=True) if path.exists() else ["0\n"] * 6
        lines = [*lines, *["0\n"] * 6][:6]
        lines[line] = text
        path.write_text("".join(lines))
        path.chmod(0o755 if executable else 0o644)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
)  # each starts processes and waits for the disk
@given(EDITS, EDITS, EDITS)
@example({"d/x": (0, "A\n", False), "d/y": (0, "A\n", False)}, {"d/y": (1, "B\n", False)}, {"d": (0, "B\n", False)})
@example({"a": (0, "A\n", False)}, {}, {"a": None, "a/b": (0, "A\n", True)})
def test_a_merge_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, start: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """Whatever both sides did: what only one side changed is as that side has it, the rest is merged or untouched."""
    project = tmp_path_factory.mktemp("project")
    layout = begin(project)
    apply(project, start)
    base = tree(project)
    made = branches.branch(layout, "a1", project)
    apply(project, ours)
    apply(made.directory, theirs)
    here, there = tree(project), tree(made.directory)
    merged = branches.merge(made, project)
    now = tree(project)
    conflicts = {conflict.path for conflict in merged.conflicts}
    for path in {*base, *here, *there, *now}:
        if path in conflicts or there.get(path) == base.get(path):
            assert now.get(path) == here.get(path)
        elif here.get(path) == base.get(path):
            assert now.get(path) == there.get(path)
        elif here.get(path) != there.get(path):
            # Both changed it, without conflict: each side's lines are there.
            assert {*now[path][1].splitlines()} <= {*here[path][1].splitlines(), *there[path][1].splitlines()}
    again = branches.merge(made, project)
    assert again.applied == ()
    assert {conflict.path for conflict in again.conflicts} == conflicts
    assert tree(project) == now


def test_a_conflict_is_bounded(project: Path) -> None:
    """Long conflicts are cut, their files are whole, and past the first ones only the files are given."""
    layout = begin(project)
    made = branches.branch(layout, "a1", project)
    for side, word in ((project, "x"), (made.directory, "y")):
        for number in range(branches.SHOWN_CONFLICTS + 15):
            (side / f"f{number}").write_text(f"{word}\n" * 5000)
    merged = branches.merge(made, project)
    assert all(conflict.file and conflict.file.stat().st_size > 20_000 for conflict in merged.conflicts)
    shown = [conflict.text for conflict in merged.conflicts if conflict.text]
    assert len(shown) == branches.SHOWN_CONFLICTS
    assert all(len(text) < branches.SHOWN_BYTES + 100 and "[cut here: " in text for text in shown)
    assert len(merged.summary) < 2000
    assert merged.summary.endswith("- and 5 more")


def test_a_damaged_record_is_a_failure_not_a_change(project: Path) -> None:
    """Without what a file was before, both sides' changes are a conflict; a corrupt manifest is said so."""
    layout = begin(project)
    made = branches.branch(layout, "a1", project)
    (made.directory / "a.txt").write_text(TEXT + "theirs\n")
    (project / "a.txt").write_text("")
    for kept in layout.base.glob("*/*"):
        kept.write_bytes(b"")
    merged = branches.merge(made, project)
    assert [conflict.reason for conflict in merged.conflicts] == [
        "both sides changed it, and what it was before is lost"
    ]
    layout.manifest("a1").write_text("{")
    with pytest.raises(BranchFailed, match="is corrupt"):
        branches.merge(made, project)


# -- where agents work in a copy ------------------------------------------------------------------------------


def test_file_tools_name_the_same_things_in_a_copy(repository: Path) -> None:
    """In a copy, files are the copy's, and the run's record and notes are the run's, by the same paths."""
    layout = begin(repository)
    layout.task.write_text("add\n")
    made = branches.branch(layout, "a1", repository)
    files = FileTree.of_run(layout, directory=made.directory)
    files.write("a.txt", "copy\n")
    assert (repository / "a.txt").read_text() != "copy\n"
    assert files.read(layout.relative(layout.task)).text == "add\n"
    files.write(layout.relative(layout.notes / "n"), "note\n")
    assert (layout.notes / "n").read_text() == "note\n"
    for path in (".git", f".ramet/{RUN}/task.md", str(repository / "a.txt"), "../prompt.md"):
        with pytest.raises(FileRefused):
            files.write(path, "x")
    assert not [path for path in FileTree.of_run(layout).list().paths if path.startswith(".ramet")]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_commands_work_in_a_copy(repository: Path) -> None:
    """The copy is writable and git answers in it; the record is read-only, and the project is not there."""
    layout = begin(repository)
    made = branches.branch(layout, "a1", repository)
    sandbox = Sandbox.of_run(layout, directory=made.directory, readable=made.readable)
    probe = await sandbox.probe()
    if not probe.works:
        pytest.skip(f"no sandbox on this system: {probe.reason}")

    async def run(command: str) -> str:
        return (await sandbox.run(command, timeout_s=30, output_path=layout.output("a1", "c1"))).output

    assert await run("echo x > made && git status --porcelain made && git log --format=%s") == "?? made\nfirst\n"
    assert (made.directory / "made").read_text() == "x\n"
    assert await run(f"echo n > .ramet/{RUN}/notes/n; ls .ramet/{RUN}") == "agents\nbase\nnotes\n"
    assert (layout.notes / "n").read_text() == "n\n"
    assert await run(f"ls {repository}") == ""
    for place in (f".ramet/{RUN}/x", ".ramet/x", ".git", f"{repository}/.git/x"):
        assert "Read-only" in await run(f"echo x > {place}")
    await run(f"echo x > {repository}/x")
    assert not (repository / "x").exists()
    assert "Device or resource busy" in await run("mv .ramet elsewhere")


CALLS: list[Callable[[RunLayout, Path], object]] = [
    lambda layout, project: branches.branch(layout, "../x", project),
    lambda layout, project: branches.remove(layout, "../x"),
]


@pytest.mark.parametrize("call", CALLS)
def test_an_agents_name_is_no_path(project: Path, call: Callable[[RunLayout, Path], object]) -> None:
    """A name that would lead elsewhere is refused before anything is touched."""
    layout = begin(project)
    before = tree(project)
    with pytest.raises(Exception, match="not usable as a file name"):
        call(layout, project)
    assert tree(project) == before
