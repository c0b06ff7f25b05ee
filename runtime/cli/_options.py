"""What people type, read and checked before anything is started or written.

Owns the arguments and options that several commands share. Invariant: whatever is wrong raises BadInput with one line
that names the option or file; nothing on disk has changed by then.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import BadInput

if TYPE_CHECKING:
    from runtime.budget import Budget

__all__ = ["Json", "Model", "Place", "Url", "read_budget", "read_directory", "read_task"]

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Url = Annotated[str | None, typer.Option("--url", help="A running SGLang server (its key, if any: RAMET_API_KEY).")]
Model = Annotated[
    str | None, typer.Option("--model", help="A model to serve here: seedling, a directory, or a hub name.")
]
Place = Annotated[Path, typer.Argument(metavar="[D]", help="A project (its latest run), or a run's directory.")]

# Words with one of these endings, or with a slash, are meant as a file even where there is none.
_TEXT_ENDINGS = (".md", ".txt", ".rst", ".task")


def read_task(text: str) -> str:
    """The task: `text` itself, or the content of the file it names. Raises BadInput."""
    if not text.strip():
        raise BadInput("TASK", "the text is empty")
    path = Path(text)
    try:
        is_file, is_directory = path.is_file(), path.is_dir()
    except OSError:  # longer than a path can be: it is a text
        is_file = is_directory = False
    if is_directory:
        raise BadInput("TASK", f"{text} is a directory; give a text, or a file that holds one")
    if is_file:
        return _content(path)
    if len(text.split()) == 1 and (text.endswith(_TEXT_ENDINGS) or "/" in text):
        raise BadInput("TASK", f"no such file: {text}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput("TASK", "not valid UTF-8") from error
    return text


def _content(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(str(path), f"not UTF-8 text (byte {error.start + 1})") from error
    except OSError as error:
        raise BadInput(str(path), f"cannot be read: {error.strerror}") from error
    if not text.strip():
        raise BadInput(str(path), "the file is empty; it should hold the task")
    return text


def read_directory(directory: Path) -> Path:
    """A directory that exists. Raises BadInput."""
    if not directory.exists():
        raise BadInput("--dir", f"no such directory: {directory}")
    if not directory.is_dir():
        raise BadInput("--dir", f"not a directory: {directory}")
    return directory.absolute()


def read_budget(text: str) -> Budget:
    """`sampled_tokens=200000,turns=500`: the fields of Budget, `none` for no limit. Raises BadInput."""
    import msgspec

    from runtime.budget import Budget

    known = {field.name: field.type for field in msgspec.structs.fields(Budget)}
    limits: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise BadInput("--budget", f"unknown field {name!r}; there are {', '.join(known)}")
        if not equals:
            raise BadInput("--budget", f"{name} has no value: write {name}=NUMBER")
        if name in limits:
            raise BadInput("--budget", f"{name} is given twice")
        limits[name] = _limit(name, value)
    try:
        return msgspec.convert(limits, Budget)
    except msgspec.ValidationError as error:
        raise BadInput("--budget", str(error)) from error


def _limit(name: str, value: str) -> int | float | None:
    if value.lower() == "none":
        return None
    try:
        number = float(value) if name == "seconds" else int(value)
    except ValueError:
        kind = "a number of seconds" if name == "seconds" else "a whole number"
        raise BadInput("--budget", f"{name} must be {kind}, not {value!r}") from None
    least = 0 if name == "depth" else 1e-9
    if not least <= number < float("inf"):
        raise BadInput("--budget", f"{name} must be positive, not {value}")
    return number
