"""`python -m tests.fuzz --inputs 100000`: fuzz every target, and print what was found as one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="in total, over all targets")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    inputs, findings = {}, {}
    for name, (_, share) in TARGETS.items():
        inputs[name], finding = fuzz(name, max(1, round(asked.inputs * share)), seed=asked.seed)
        if finding:
            findings[name] = finding
    taken = round(time.monotonic() - began, 1)
    total = sum(inputs.values())
    print(
        json.dumps({"inputs": total, "findings": findings, "seconds": taken, "seed": asked.seed, "by_target": inputs})
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
