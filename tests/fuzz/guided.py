"""Coverage-guided fuzzing of one target: atheris mutates what the generators make, and keeps what reaches new code.

Run as a program it is the process in which that happens; `guide` starts it and reads what it says. It is a process of
its own because libFuzzer ends the one that it runs in, and because code is instrumented as it is imported.

Needs `atheris`, which has wheels for CPython 3.11 to 3.14 on Linux, x86-64. Targets of a parser in C (JSON, tokens)
have few branches that can be counted: for those it is the number of inputs that tells.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

__all__ = ["Guided", "guide", "missing"]

ROOT = Path(__file__).parents[2]
# Whose branches count as new: ours, and the standard library's where ours hands on what it was given.
INSTRUMENTED = ("agents", "runtime", "workspace", "tests.fuzz.targets", "email", "json", "ast")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # some targets write a file for every input
SEEDS = 200
LONGEST = 4_096  # bytes of one input
HANGS_S = 20  # an input that takes longer is a finding, too
MEMORY_MIB = 2_048
TAIL = 2_000  # characters of what is said of a finding


class Guided(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `edges`: branches reached by the generators' inputs alone, and in the end."""

    inputs: int
    seconds: float
    edges: tuple[int, int]
    finding: str = ""
    saved: str = ""  # the input that `--replay` takes


def missing() -> str:
    """Why there is no guided fuzzing here, or ""."""
    if importlib.util.find_spec("atheris"):
        return ""
    return "guided fuzzing needs atheris: `pip install atheris` (CPython 3.11 to 3.14 on Linux, x86-64)"


def guide(name: str, findings: Path, *, inputs: int = 0, seconds: float = 0.0, seed: int = 0) -> Guided:
    """Fuzz until `inputs` were tried, `seconds` are over (0: no such limit) or one raises, which is saved."""
    kept = findings / name.replace(" ", "-")
    kept.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ramet-guided-", dir=MEMORY) as scratch:
        corpus, said = Path(scratch) / "corpus", Path(scratch) / "said"
        corpus.mkdir()
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(seed), str(corpus)]
        flags = {
            "artifact_prefix": f"{kept}/",
            "max_len": LONGEST,
            "max_total_time": -(-seconds // 1),
            "print_final_stats": 1,
            "report_slow_units": HANGS_S,  # what is slow on a busy machine is none
            "rss_limit_mb": MEMORY_MIB,
            "runs": inputs or -1,
            "seed": seed + 1,  # 0 would be a seed by chance
            "timeout": HANGS_S,
        }
        command += [
            f"-{flag}={value:g}" if isinstance(value, float) else f"-{flag}={value}" for flag, value in flags.items()
        ]
        before = set(kept.iterdir())
        with said.open("wb") as out:
            # The same names in the same sets, and whatever the targets write goes with the scratch directory.
            environment = {**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": scratch}
            code = subprocess.run(command, stdout=out, stderr=out, cwd=ROOT, env=environment, check=False).returncode
        text = said.read_text(errors="replace")
        saved = sorted(set(kept.iterdir()) - before)
    if not any(kept.iterdir()):
        kept.rmdir()
    edges = [int(number) for number in re.findall(r"cov: (\d+)", text)]
    inited = re.search(r"INITED\s+cov: (\d+)", text)
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", text) or re.search(r"Done (\d+) runs", text)
    return Guided(
        inputs=int(tried[1]) if tried else 0,
        seconds=round(time.monotonic() - began, 1),
        edges=(int(inited[1]) if inited else 0, edges[-1] if edges else 0),
        finding=_finding(text) if code or saved else "",
        saved=str(saved[0]) if saved else "",
    )


def _finding(text: str) -> str:
    """The exception, without the fuzzer's own lines around it."""
    raised = text.partition("=== Uncaught Python exception: ===")[2].partition("\n==")[0]
    return (raised or text)[-TAIL:].strip()


def _fuzz(name: str, seed: int, corpus: Path, flags: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.raw import dictionary, made, taking
    for number, data in enumerate(made(name, SEEDS, seed=seed)):
        (corpus / f"{number:04}").write_bytes(data)
    words = corpus.with_name("words")
    words.write_text(dictionary(name))
    take = taking(name)
    atheris.Setup(["fuzz", *flags, f"-dict={words}", str(corpus)], lambda data: take(data))
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
