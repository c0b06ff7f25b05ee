"""Where everything of a run lives on disk.

    <directory>/.ramet/.gitignore            `*`: a user's repository stays clean
    <directory>/.ramet/<run>/
        task.md  journal.jsonl  notes/
        agents/<id>/  prompt.md  history.md  result.md  interview.md  output/<call>.txt
                      work/  base.json  merged.json  changes.patch  conflicts/    where it has an isolated copy
        mail/<id>/    tmp/  new/  cur/   a Maildir; bad/ holds what is no letter
        base/                  the contents that isolated copies began with, by their hash

Mail lies beside the agents and not with them, so that one watch over `mail/` sees mail and nothing else: the
histories in `agents/` grow with every turn.

Owns the names and the making of a new run's directories. Invariants: a run's name sorts by the time it began;
a run is never overwritten; every path this module gives lies under `<directory>/.ramet/<run>/`. A run exists
from the moment its journal holds a byte: a directory left by a crash before that is not found. It does not
know what the files hold.
"""

import datetime
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from workspace._disk import sync_directory
from workspace.errors import BadName, NotARun, RunExists, WorkspaceError

# Four letters, in the order in which names sort: two for the millisecond (36**2 > 1000), so that runs begun within a
# second sort by time, and two by chance.
_SUFFIX_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CHANCE_LENGTH = 2
_RUN_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{4}")
# One path component that is no option, no hidden file and no way up, and leaves room for suffixes within 255
# bytes.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Two runs begun in the same millisecond draw a name each; to collide this often is a broken random source,
# not chance.
_NAME_ATTEMPTS = 16

RAMET = ".ramet"
"""The directory in a project that holds its runs."""


def utc_now() -> datetime.datetime:
    """The wall clock, in UTC so that names sort through changes of daylight saving time."""
    return datetime.datetime.now(datetime.UTC)


def run_name(now: datetime.datetime, letters: random.Random) -> str:
    """A new run's name, such as `20261122-081501-k3f9`: sortable by time, to the millisecond."""
    high, low = divmod(now.microsecond // 1000, len(_SUFFIX_LETTERS))
    chance = "".join(letters.choices(_SUFFIX_LETTERS, k=_CHANCE_LENGTH))
    suffix = _SUFFIX_LETTERS[high] + _SUFFIX_LETTERS[low] + chance
    return f"{now.astimezone(datetime.UTC):%Y%m%d-%H%M%S}-{suffix}"


class RunLayout(msgspec.Struct, frozen=True):
    """The paths of one run. `directory` is the absolute path of the project, `run` the run's name."""

    directory: Path
    run: str

    def __post_init__(self) -> None:
        if not _RUN_NAME.fullmatch(self.run):
            raise BadName(self.run, f"not a run's name (YYYYMMDD-HHMMSS-xxxx): {self.run!r}")
        if not self.directory.is_absolute():
            raise BadName(self.directory, f"a run's directory must be an absolute path: {self.directory}")

    @property
    def root(self) -> Path:
        """The run's own directory, `<directory>/.ramet/<run>`."""
        return self.directory / RAMET / self.run

    @property
    def task(self) -> Path:
        return self.root / "task.md"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def agents(self) -> Path:
        return self.root / "agents"

    @property
    def mails(self) -> Path:
        """Everybody's mailboxes, and nothing else."""
        return self.root / "mail"

    @property
    def notes(self) -> Path:
        """The only part of the run's directory that agents may write."""
        return self.root / "notes"

    def agent(self, agent: str) -> Path:
        """The agent's directory. Raises BadName where the id is not a plain file name."""
        return self.agents / plain_name(agent)

    def prompt(self, agent: str) -> Path:
        return self.agent(agent) / "prompt.md"

    def history(self, agent: str) -> Path:
        return self.agent(agent) / "history.md"

    def result(self, agent: str) -> Path:
        return self.agent(agent) / "result.md"

    def interview(self, agent: str) -> Path:
        return self.agent(agent) / "interview.md"

    def mail(self, agent: str) -> Path:
        """The mailbox of an agent, or of a person. Raises BadName where that is not a plain file name."""
        return self.mails / plain_name(agent)

    def output(self, agent: str, call: str) -> Path:
        """Where the whole output of one of the agent's calls goes when too long to show."""
        return self.agent(agent) / "output" / f"{plain_name(call)}.txt"

    @property
    def base(self) -> Path:
        """The contents that the run's isolated copies began with."""
        return self.root / "base"

    def work(self, agent: str) -> Path:
        """The agent's isolated copy of a working directory, where it has one."""
        return self.agent(agent) / "work"

    def manifest(self, agent: str) -> Path:
        """What was in the agent's isolated copy when it was made. The copy exists once this does."""
        return self.agent(agent) / "base.json"

    def merged(self, agent: str) -> Path:
        """What of the agent's isolated copy has been merged, and where."""
        return self.agent(agent) / "merged.json"

    def patch(self, agent: str) -> Path:
        """What the agent changed in its isolated copy."""
        return self.agent(agent) / "changes.patch"

    def conflicts(self, agent: str) -> Path:
        """The whole text of each conflict of the latest merge of the agent's isolated copy."""
        return self.agent(agent) / "conflicts"

    def relative(self, path: Path) -> str:
        """`path` as agents write it: relative to the project, with `/`. Raises ValueError outside it."""
        return path.relative_to(self.directory).as_posix()

    @classmethod
    def create(
        cls,
        directory: Path | str,
        *,
        name: str | None = None,
        now: Callable[[], datetime.datetime] = utc_now,
        letters: random.Random | None = None,
    ) -> Self:
        """Make the directories of a new run in an existing project directory, durably.

        The journal is not made here: the run exists once its writer has written the header. Pass `now` and
        `letters` (or the whole `name`) for the same name every time. Raises RunExists, BadName, or
        WorkspaceError where the directory is missing or cannot be written. Blocks for a few milliseconds.
        """
        home = _existing(directory)
        letters = letters or random.SystemRandom()
        try:
            _make_ramet(home)
            for _ in range(1 if name else _NAME_ATTEMPTS):
                layout = cls(home, name or run_name(now(), letters))
                try:
                    layout.root.mkdir()
                except FileExistsError:
                    continue
                layout.agents.mkdir()
                layout.mails.mkdir()
                layout.notes.mkdir()
                for changed in (layout.root, home / RAMET, home):
                    sync_directory(changed)
                return layout
        except OSError as error:
            raise WorkspaceError(home, f"cannot make a run in {home}: {error.strerror}") from error
        raise RunExists(layout.root, f"there is already a run at {layout.root}")

    @classmethod
    def find(cls, directory: Path | str) -> Self:
        """The latest run of a project. Raises NotARun where there is none."""
        runs = cls.all(directory)
        if not runs:
            raise NotARun(directory, f"no run in {directory}: `{RAMET}` there holds none")
        return runs[-1]

    @classmethod
    def all(cls, directory: Path | str) -> list[Self]:
        """Every run of a project, oldest first. Raises WorkspaceError where the directory is missing."""
        home = _existing(directory)
        ramet = home / RAMET
        if not ramet.is_dir():
            return []
        names = sorted(entry.name for entry in ramet.iterdir() if _RUN_NAME.fullmatch(entry.name))
        return [layout for layout in (cls(home, name) for name in names) if layout._begun()]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """The run at `path`: a run's own directory, or a project (its latest run). Raises NotARun."""
        place = _existing(path)
        if place.parent.name == RAMET and _RUN_NAME.fullmatch(place.name):
            layout = cls(place.parent.parent, place.name)
            if not layout._begun():
                raise NotARun(place, f"not a run: {place} has no journal")
            return layout
        return cls.find(place.parent if place.name == RAMET else place)

    def _begun(self) -> bool:
        try:
            return self.journal.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False


def _existing(directory: Path | str) -> Path:
    path = Path(directory).resolve()
    if not path.is_dir():
        raise NotARun(directory, f"no such directory: {directory}")
    return path


def _make_ramet(home: Path) -> None:
    ramet = home / RAMET
    ramet.mkdir(exist_ok=True)
    # A cloned repository could carry `.ramet` as a link to anywhere; a run must not be written there.
    if ramet.is_symlink():
        raise WorkspaceError(ramet, f"{ramet} is a symbolic link; a run is only written to a directory of its own")
    ignore = ramet / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def is_plain_name(name: str) -> bool:
    """Whether `plain_name` accepts it."""
    return _PLAIN_NAME.fullmatch(name) is not None


def plain_name(name: str) -> str:
    """`name`, if it can be a file's name and nothing else: no path, no hidden file. Raises BadName."""
    if not is_plain_name(name):
        raise BadName(name, f"not usable as a file name: {name!r}")
    return name
