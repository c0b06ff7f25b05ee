"""`ramet audit`: what was rewarded in a file of rollouts, and should not have been."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from runtime.cli._options import Json, Url
from runtime.errors import BadInput

if TYPE_CHECKING:
    from agents.chat import Chat
    from runtime.rollouts.audit import Row
    from runtime.rollouts.schema import Rollout

__all__ = ["audit"]


def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rollouts, as `ramet rollout` writes them.")],
    model: Annotated[str | None, typer.Option("--model", help="Whose tokens they are, if not what FILE says.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Say which tasks score on a part of their input.")] = False,
    drop: Annotated[Path | None, typer.Option(help="Write the rollouts here, those with a hit as dropped.")] = None,
    zero: Annotated[Path | None, typer.Option(help="Write them here, tainted agents' rewards brought to 0.")] = None,
    propose: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Have an agent propose detectors: files below DIR, never run.")
    ] = None,
    url: Url = None,
    proposer: Annotated[str | None, typer.Option(help="The model to serve here for --propose.")] = None,
    as_json: Json = False,
) -> int:
    """Look for leaks and cheats: one row a hit, with who it taints.

    Exit code 0 whatever is found: the rows are the answer.
    """
    _check(file, propose, drop, zero, asked=url is not None or proposer is not None)
    from contextlib import ExitStack

    import msgspec

    from runtime.rollouts import audit as audits
    from runtime.rollouts.schema import write_rollout

    proposing = _Proposing(propose, file, model, url, proposer) if propose is not None else None
    watchers = [watcher() for watcher in audits.WATCHERS]
    if partial:
        watchers.append(audits.PartialInputs())
    counted: Counter[str] = Counter()
    wrong: list[Exception] = []
    total = with_hits = 0

    def show(row: Row) -> None:
        counted[row.class_] += 1
        print(msgspec.json.encode(row).decode() if as_json else _line(row))

    with ExitStack() as stack:
        outs = [
            (stack.enter_context(_written(path)), change)
            for path, change in ((drop, audits.drop), (zero, audits.zero))
            if path is not None
        ]
        for rollout, rows in audits.audit(_rollouts(file, wrong), _chats(model, file), watchers=watchers):
            total, with_hits = total + 1, with_hits + bool(rows)
            for row in rows:
                show(row)
            for out, change in outs:
                write_rollout(out, change(rollout, rows))
    for watcher in watchers:
        for row in watcher.rows():
            show(row)
    classes = dict(sorted(counted.items()))
    ended = {"event": "audit_ended", "rollouts": total, "with_hits": with_hits, "classes": classes}
    found = ", ".join(f"{count} {class_}" for class_, count in classes.items()) or "nothing found"
    print(msgspec.json.encode(ended).decode() if as_json else f"{total} rollouts, {with_hits} with hits: {found}")
    if wrong:
        raise ExceptionGroup("parts of the file cannot be used", wrong)
    return proposing.run() if proposing is not None else 0


def _check(file: Path, propose: Path | None, drop: Path | None, zero: Path | None, *, asked: bool) -> None:
    if not file.exists():
        raise BadInput("FILE", f"no such file: {file}")
    if file.is_dir():
        raise BadInput("FILE", f"{file} is a directory; give a file of rollouts")
    if propose is None and asked:
        raise BadInput("--propose", "is missing: --url and --proposer are for the agent that proposes")
    for option, path in (("--drop", drop), ("--zero", zero)):
        if path is None:
            continue
        if path.exists() and path.samefile(file):
            raise BadInput(option, f"{path} is the file that is being read")
        if not path.absolute().parent.is_dir():
            raise BadInput(option, f"no such directory: {path.parent}")
    if drop is not None and zero is not None and drop.absolute() == zero.absolute():
        raise BadInput("--zero", "is the same file as --drop")


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that is there when it is whole, or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rollouts(file: Path, wrong: list[Exception]) -> Iterator[Rollout]:
    """The rollouts of a file, as far as they are whole; what is wrong with the others is put into `wrong`."""
    from runtime.rollouts.schema import RolloutCorrupt, read_rollouts, verify

    try:
        for rollout in read_rollouts(file):
            if problems := verify(rollout):
                wrong.append(BadInput(str(file), f"rollout {rollout.head.id}: {problems[0]}"))
            else:
                yield rollout
    except RolloutCorrupt as error:
        wrong.append(error)


def _chats(model: str | None, file: Path) -> Callable[[Rollout], Chat]:
    """The chat format of each rollout's model, loaded once. Raises BadInput where there is none."""
    from functools import cache

    from agents.chat import Chat, ChatError
    from agents.tokenizer import ModelNotFound
    from runtime.engine.base import EngineRefused
    from runtime.engine.server import resolve_model

    load = cache(lambda name: Chat.load(resolve_model(name)))

    def chat_of(rollout: Rollout) -> Chat:
        name = model or rollout.head.model
        if not name:
            raise BadInput(str(file), f"rollout {rollout.head.id}: model: is empty; say whose tokens by --model")
        try:
            return load(name)
        except (ChatError, ModelNotFound, EngineRefused) as error:
            hint = "" if model else " (another place of the same model: --model)"
            raise BadInput("--model" if model else f"{file}: model", f"{error}{hint}") from error

    return chat_of


def _line(row: Row) -> str:
    from workspace import harmless

    where = f"{row.rollout} {row.agent} segment {row.segment} turn {row.turn}" if row.rollout else "series"
    reach = f" -> segments {', '.join(map(str, row.taints))}" if len(row.taints) > 1 else ""
    return harmless(f"{row.severity:6} {row.class_:22} {where}{reach}: {row.quote}")


class _Proposing:
    """The agent that proposes: what can be wrong with its options is found before the audit begins."""

    def __init__(self, directory: Path, file: Path, model: str | None, url: str | None, proposer: str | None) -> None:
        from runtime.cli._engine import choose
        from runtime.rollouts.audit.propose import check_directory

        check_directory(directory)
        self._directory, self._file, self._model = directory, file, model
        self._open = choose(url, proposer)

    def run(self) -> int:
        """Lay the folder out, and have it looked at; returns the exit code."""
        from runtime.cli._logs import to_stderr
        from runtime.cli._signals import run_until_signal
        from runtime.rollouts.audit import inspect, read_transcript
        from runtime.rollouts.audit.propose import write_rollouts
        from runtime.rollouts.schema import read_rollouts

        chat_of = _chats(self._model, self._file)
        # All of them have been found whole by now: nothing is proposed from a file that is not.
        transcripts = (read_transcript(rollout, chat_of(rollout)) for rollout in read_rollouts(self._file))
        write_rollouts(self._directory, ((one, inspect(one)) for one in transcripts))
        to_stderr()
        return run_until_signal(self._host)

    async def _host(self) -> int:
        from runtime.cli._session import EXIT_CODES
        from runtime.rollouts.audit.propose import propose
        from workspace import harmless

        async with self._open(lambda line: print(line, file=sys.stderr)) as engine:
            outcome, proposals = await propose(engine, self._directory)
        for proposal in proposals:
            print(harmless(proposal.path + (f": {proposal.problem}" if proposal.problem else "")), file=sys.stderr)
        print(f"{len(proposals)} proposals, none in use: read them, and copy what is good", file=sys.stderr)
        return EXIT_CODES[outcome]
