"""`ramet stats`: the bill of a run."""

from __future__ import annotations

from pathlib import Path

from runtime.cli._options import Json, Place

__all__ = ["stats"]


def stats(place: Place = Path(), as_json: Json = False) -> int:
    """Count what a run sampled, computed and took from the cache. Reads the journal alone."""
    import msgspec

    from runtime.recorder import load
    from runtime.stats import count
    from workspace import RunLayout

    bill = count(load(RunLayout.open(place)))
    if as_json:
        print(msgspec.json.encode(bill).decode())
        return 0
    for name, value in msgspec.structs.asdict(bill).items():
        shown = f"{value:,}" if isinstance(value, int | float) else value or "open"
        print(f"{name.replace('_', ' '):22}{shown:>14}")
    return 0
