"""`python -m examples.train_seedling`: rows, training, exam and model card, from seeds to served weights.

Owns the order of the steps and the card. Needs an installed engine (`ramet engine install`): its environment has the
torch that trains and the server that the exam runs on. Everything lands in `--out`; nothing is written elsewhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from examples.train_seedling.card import write_card
from runtime.engine.environment import locate, variables

# glibc gives large buffers back to the kernel and fetches them again each step: a sixth of the training's time.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
    "GOMP_SPINCOUNT": "2000",  # with OpenMP's default, waiting threads spin: on busy cores several times as long
}


def run(command: list[str], **options: Any) -> str:
    """Run one step in a process of its own, in the open; returns what it printed."""
    print("+", " ".join(command), file=sys.stderr, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/seedling"), help="where the model goes")
    parser.add_argument("--data", type=Path, default=Path("build/seedling-data"), help="where the rows go")
    parser.add_argument("--minutes", type=float, default=65.0)
    parser.add_argument("--stories", type=int, default=12000)
    parser.add_argument("--drills", type=int, default=10000)
    parser.add_argument("--skip-training", action="store_true", help="only the exam and the card of what is there")
    options = parser.parse_args()
    if not options.skip_training:
        rows = ["--stories", str(options.stories), "--drills", str(options.drills)]
        run([sys.executable, "-m", "examples.train_seedling.data", str(options.data), *rows])
        environment = locate()
        environ = variables(environment) | {"PYTHONPATH": ".", **MALLOC}
        train = [str(environment.python), "-m", "examples.train_seedling.train", str(options.data), str(options.out)]
        run([*train, "--minutes", str(options.minutes)], env=environ)
    found = json.loads(run([sys.executable, "-m", "examples.train_seedling.evaluate", str(options.out)]))
    (options.out / "exam.json").write_text(json.dumps(found, indent=1) + "\n")
    write_card(options.out)
    print(json.dumps({story: tally["right"] for story, tally in found.items()} | {"out": str(options.out)}))


if __name__ == "__main__":
    main()
