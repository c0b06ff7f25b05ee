"""What a newcomer's machine gets: the size of the core install, and how long importing takes.

    python -m benchmarks.footprint

Installs this checkout with plain pip into a fresh virtual environment (without the engine). Prints one JSON object:
megabytes on disk (pip itself and setuptools excluded), the largest packages, seconds of `import runtime` and of
`ramet --help` (medians of nine, in processes of their own).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS = 9


def size(path: Path) -> int:
    """Bytes below a path."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def seconds(command: list[str]) -> float:
    """Median wall time of a command."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Measure, print."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        python = str(home / "bin" / "python")
        began = time.perf_counter()
        subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True, stdout=sys.stderr)
        installing = time.perf_counter() - began
        packages = next((home / "lib").glob("python*/site-packages"))
        sizes = {p.name: size(p) for p in packages.iterdir() if p.is_dir() and p.name not in ("pip", "setuptools")}
        code = "import time; t = time.perf_counter(); import runtime; runtime.Swarm; print(time.perf_counter() - t)"
        imports = [
            float(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd="/").stdout)
            for _ in range(RUNS)
        ]
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:6]
        bare = seconds([python, "-c", "pass"])
        print(
            json.dumps(
                {
                    "benchmark": "footprint",
                    "install_MB": round(sum(sizes.values()) / 1e6, 1),
                    "install_s": round(installing, 1),
                    "largest_MB": {name: round(bytes_ / 1e6, 1) for name, bytes_ in largest},
                    "import_runtime_s": round(statistics.median(imports), 3),
                    "help_s": round(seconds([str(home / "bin" / "ramet"), "--help"]), 3),
                    "python_alone_s": round(bare, 3),
                }
            )
        )


if __name__ == "__main__":
    main()
