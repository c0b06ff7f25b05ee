"""What people type, read and checked before anything is started or written.

Owns the arguments and options that several commands share, with their help. Invariant: whatever is wrong raises
BadInput with one line that names the option or file; nothing on disk has changed by then.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import BadInput

if TYPE_CHECKING:
    from runtime.budget import Budget
    from workspace import Limits

__all__ = [
    "BudgetText",
    "Constrain",
    "Json",
    "LimitText",
    "Model",
    "Place",
    "TurnTokens",
    "Unsandboxed",
    "Url",
    "read_budget",
    "read_directory",
    "read_limits",
    "read_task",
]

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Url = Annotated[str | None, typer.Option("--url", help="A running SGLang server (its key, if any: RAMET_API_KEY).")]
Model = Annotated[
    str | None, typer.Option("--model", help="A model to serve here: seedling, a directory, or a hub name.")
]
Place = Annotated[Path, typer.Argument(metavar="[D]", help="A project (its latest run), or a run's directory.")]
BudgetText = Annotated[
    str,
    typer.Option(
        "--budget",
        help="Limits of a run, such as sampled_tokens=200000,turns=500; also computed_tokens, seconds, depth, "
        "agents. none is no limit.",
    ),
]
LimitText = Annotated[
    str,
    typer.Option(
        "--limit",
        help="Limits of each shell command, such as memory=4G,cpu=600; also file, tmp (bytes), processes, and shown, "
        "kept (bytes of its output). cpu is in seconds.",
    ),
]
TurnTokens = Annotated[int, typer.Option("--turn-tokens", min=16, help="The most tokens one turn may sample.")]
Constrain = Annotated[bool, typer.Option("--constrain", help="Let turns be well-formed tool calls only.")]
Unsandboxed = Annotated[
    bool, typer.Option("--unsandboxed", help="Run shell commands without a sandbox where none can be had.")
]

# Words with one of these endings, or with a slash, are meant as a file even where there is none.
_TEXT_ENDINGS = (".md", ".txt", ".rst", ".task")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
# A shell needs some of it to start at all; who asks for less meant another unit.
_LEAST_MEMORY_BYTES = 16 << 20
# What this process may not exceed itself, it cannot give to commands either.
_OWN_LIMITS = {
    "memory": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "file": resource.RLIMIT_FSIZE,
    "processes": resource.RLIMIT_NPROC,
}


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

    given = _fields("--budget", text, [field.name for field in msgspec.structs.fields(Budget)])
    try:
        return msgspec.convert({name: _limit(name, value) for name, value in given.items()}, Budget)
    except msgspec.ValidationError as error:
        raise BadInput("--budget", str(error)) from error


def read_limits(text: str) -> Limits:
    """`memory=4G,cpu=600`: the fields of `workspace.Limits` without their units. Raises BadInput."""
    import msgspec

    from workspace import Limits

    names = {one.name.removesuffix("_bytes").removesuffix("_s"): one.name for one in msgspec.structs.fields(Limits)}
    given = _fields("--limit", text, names)
    amounts = {names[name]: _amount(name, value, names[name].endswith("_bytes")) for name, value in given.items()}
    return Limits(**amounts)


def _fields(option: str, text: str, known: Iterable[str]) -> dict[str, str]:
    """`name=value,...` as a dictionary. Raises BadInput for a name that is unknown, has no value or is there twice."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise BadInput(option, f"unknown field {name!r}; there are {', '.join(known)}")
        if not equals:
            raise BadInput(option, f"{name} has no value: write {name}=NUMBER")
        if name in found:
            raise BadInput(option, f"{name} is given twice")
        found[name] = value
    return found


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


def _amount(name: str, value: str, is_size: bool) -> int:
    unit = _UNITS.get(value[-1:].upper(), 1) if is_size else 1
    digits = value[:-1] if unit > 1 else value
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        kind = "a size such as 512M or 4G" if is_size else "a whole number"
        kind += " of seconds" if name == "cpu" else ""
        raise BadInput("--limit", f"{name} must be {kind}, not {value!r}")
    number = int(digits) * unit
    least = _LEAST_MEMORY_BYTES if name == "memory" else 1
    if number < least:
        raise BadInput("--limit", f"{name} must be at least {least}, not {value}")
    most = resource.getrlimit(_OWN_LIMITS[name])[1] if name in _OWN_LIMITS else resource.RLIM_INFINITY
    if most == resource.RLIM_INFINITY:
        most = (1 << 62) - 1
    if number > most:
        raise BadInput("--limit", f"{name} can be at most {most} here, not {value}")
    return number
