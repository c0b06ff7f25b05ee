"""A survey of eight ledgers on the real server: what the engine computed, over the least it could have.

    python -m benchmarks.survey [--model seedling] [--files 8] [--runs 5]

`uncached_tokens` is what the same requests would have computed without a cache. Prints one JSON object; figures are
medians over runs with different files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from random import Random

import anyio

from runtime import SGLang, Swarm
from runtime.demo import check, make_survey, write_survey


async def measure(model: str, files: int, runs: int, url: str | None) -> dict[str, object]:
    """Several surveys, one after the other."""
    ratios, seconds, right, bills = [], [], 0, []
    opened = SGLang.connect(url) if url else SGLang.local(model)
    async with opened as engine:
        for seed in range(runs):
            survey = make_survey(Random(10_000 + seed), files, split="heldout")
            with tempfile.TemporaryDirectory() as directory:
                write_survey(survey, Path(directory))
                began = time.perf_counter()
                async with Swarm(engine, directory) as swarm:
                    result = await (await swarm.start(survey.question)).result()
                seconds.append(time.perf_counter() - began)
            bill = swarm.statistics()
            bills.append(bill)
            ratios.append(bill.recompute_ratio)
            right += check(survey, result.text)
    return {
        "benchmark": "survey",
        "files": files,
        "runs": runs,
        "right": right,
        "recompute_ratio": statistics.median(ratios),
        "recompute_ratio_worst": max(ratios),
        "seconds": round(statistics.median(seconds), 2),
        "agents": statistics.median(b.agents for b in bills),
        "computed_tokens": statistics.median(b.computed_tokens for b in bills),
        "cached_tokens": statistics.median(b.cached_tokens for b in bills),
        "uncached_tokens": statistics.median(b.prompt_tokens for b in bills),
        "sampled_tokens": statistics.median(b.sampled_tokens for b in bills),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="seedling")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--url")
    options = parser.parse_args()
    print(json.dumps(anyio.run(measure, options.model, options.files, options.runs, options.url)))


if __name__ == "__main__":
    main()
