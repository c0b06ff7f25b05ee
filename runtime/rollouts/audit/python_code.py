"""What Python code does, as commands: the calls in it that start programs, touch files or fetch something.

Owns a table of such calls. Looks at what is written there literally and follows no variable; code that does not parse
does nothing. Does not know what a command means.
"""

from __future__ import annotations

import ast
import shlex
import warnings
from collections.abc import Callable, Iterator

from runtime.rollouts.audit.command import Command

__all__ = ["read_python"]

_STARTS = {"system", "popen", "run", "call", "check_call", "check_output", "Popen", "getoutput", "getstatusoutput"}
_FETCHES = {"get", "post", "urlopen", "urlretrieve", "request", "stream"}
_DATASETS = {"load_dataset", "snapshot_download", "hf_hub_download", "dataset_info", "list_repo_files"}
_COPIES = {"copy", "copy2", "copyfile", "copytree", "move", "rename", "replace", "symlink"}
_REMOVES = {"remove", "unlink", "rmtree"}
_WRITES = {"write_text", "write_bytes"}
_READS = {"read_text", "read_bytes"}


def read_python(code: str, shell: Callable[[str], list[Command]]) -> list[Command]:
    """The commands that `code` comes to; `shell` reads the ones that it writes as text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of somebody else's invalid escapes
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    named = {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    out: list[Command] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            out += _call(node, named.get(name, name), shell)
    return out


def _call(node: ast.Call, name: str, shell: Callable[[str], list[Command]]) -> Iterator[Command]:
    words = [text for text in map(_literal, node.args) if text]
    of = _owner(node.func)
    if name in _STARTS and node.args:
        yield from shell(_started(node.args[0]))
    elif name in _FETCHES and words and "://" in words[0]:
        yield Command(argv=("curl", words[0]))
    elif name in _DATASETS and words:
        yield Command(argv=("load_dataset", *words))
    elif name in _COPIES and len(words) > 1:
        yield Command(argv=("cp" if name.startswith("copy") else "mv", *words[:2]))
    elif name in _REMOVES and (words or of):
        yield Command(argv=("rm", words[0] if words else of))
    elif name in _WRITES and of:
        yield Command(argv=("tee", of), body=words[0] if words else "")
    elif name in _READS and of:
        yield Command(argv=("cat", of))
    elif name == "open" and (words or of):
        modes = [*words[0 if of else 1 :][:1], *map(_literal, _keyword(node, "mode"))]
        writes = any(letter in mode for mode in modes for letter in "wax+")
        yield Command(argv=("tee" if writes else "cat", of or words[0]))


def _started(node: ast.expr) -> str:
    """A command line, given as one text or as a list of words."""
    if isinstance(node, ast.List | ast.Tuple):
        return shlex.join(text for text in map(_literal, node.elts) if text)
    return _literal(node)


def _literal(node: ast.expr) -> str:
    """A text as far as it is written out: of `base + "/x.py"` the end, of an f-string its constant parts."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) if isinstance(part, ast.Constant) else "$" for part in node.values)
    if isinstance(node, ast.BinOp):
        left, right = _literal(node.left), _literal(node.right)
        return f"{left}/{right}" if isinstance(node.op, ast.Div) and left else left + right
    if isinstance(node, ast.Call) and node.args:
        return _literal(node.args[0])  # str(...), Path(...), "..".join is none of a command's business
    return ""


def _owner(function: ast.expr) -> str:
    """The path in `Path("x").write_text`, or nothing."""
    return _literal(function.value) if isinstance(function, ast.Attribute) else ""


def _keyword(node: ast.Call, name: str) -> list[ast.expr]:
    return [keyword.value for keyword in node.keywords if keyword.arg == name]
