"""Fuzz every target, and print what was found as one JSON object.

    python -m tests.fuzz --inputs 100000              what the generators make
    python -m tests.fuzz --guided --seconds 60        what reaches new code (needs atheris), 60 s a target
    python -m tests.fuzz --replay FILE                one input again that was found

Exits with 1 where something was found. The input of a guided finding is saved under `--findings`, in a folder with its
target's name.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.fuzz.guided import guide, missing
from tests.fuzz.raw import taking
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, help="in total, over all targets (default 100,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="this target; may be said again")
    parser.add_argument("--guided", action="store_true", help="by coverage, each target in a process of its own")
    parser.add_argument("--seconds", type=float, default=0.0, help="with --guided: the most for each target")
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()) / "ramet-findings")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    asked = parser.parse_args(arguments)
    if asked.replay is not None:
        return _replay(asked.replay)
    if asked.guided and (reason := missing()):
        print(reason, file=sys.stderr)
        return 2
    began = time.monotonic()
    total = asked.inputs or (0 if asked.seconds else 100_000)
    shares = {name: share for name, (_, share) in TARGETS.items() if name in (asked.only or TARGETS)}
    inputs, findings, more = {}, {}, {}
    for name, share in shares.items():
        count = round(total * share / sum(shares.values()))
        if asked.guided:
            done = guide(name, asked.findings, inputs=count, seconds=asked.seconds, seed=asked.seed)
            inputs[name], finding = done.inputs, f"{done.saved}\n{done.finding}" if done.finding else ""
            more[name] = {key: msgspec.to_builtins(done)[key] for key in ("seconds", "edges")}
            print(f"{name}: {done.inputs:,} inputs in {done.seconds} s", file=sys.stderr)
        else:
            inputs[name], finding = fuzz(name, max(1, count), seed=asked.seed)
        if finding:
            findings[name] = finding
    taken = round(time.monotonic() - began, 1)
    said = {"inputs": sum(inputs.values()), "findings": findings, "seconds": taken, "seed": asked.seed}
    print(json.dumps({**said, "by_target": inputs, **({"guided": more} if more else {})}))
    return 1 if findings else 0


def _replay(file: Path) -> int:
    names = {name.replace(" ", "-"): name for name in [*TARGETS, "hole"]}
    name = names.get(file.absolute().parent.name)
    if name is None:
        print(f"{file}: its folder has no target's name: {', '.join(names)}", file=sys.stderr)
        return 2
    try:
        data = file.read_bytes()
    except OSError as error:
        print(f"{file}: {error.strerror}", file=sys.stderr)
        return 2
    taking(name)(data)  # raises what was found
    print(f"{file}: taken, or refused in words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
