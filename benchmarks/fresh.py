"""The README's first command on a fresh clone, with an empty cache: how long the set-up takes, and then the demo.

    python -m benchmarks.fresh

Clones this repository's HEAD into an empty directory, points every cache at another empty one, and runs `make demo`
three times once everything is installed. Prints one JSON object with seconds of wall time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def timed(command: list[str], where: Path, environment: dict[str, str]) -> float:
    """Seconds that a command took. Raises where it failed."""
    began = time.perf_counter()
    subprocess.run(command, cwd=where, env=environment, check=True, stdout=sys.stderr)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print."""
    with tempfile.TemporaryDirectory() as directory:
        clone, cache = Path(directory) / "ramet", Path(directory) / "cache"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "XDG_STATE_HOME": str(cache)}
        environment.pop("RAMET_ENGINE_DIR", None)
        ready = timed(["make", ".venv/.ready"], clone, environment)
        engine = timed([".venv/bin/ramet", "engine", "install"], clone, environment)
        first = timed(["make", "demo"], clone, environment)
        again = [timed(["make", "demo"], clone, environment) for _ in range(2)]
    print(
        json.dumps(
            {
                "benchmark": "fresh",
                "setup_s": round(ready + engine, 1),
                "setup_core_s": round(ready, 1),
                "setup_engine_s": round(engine, 1),
                "first_demo_s": round(first, 1),
                "next_demos_s": [round(seconds, 1) for seconds in again],
            }
        )
    )


if __name__ == "__main__":
    main()
