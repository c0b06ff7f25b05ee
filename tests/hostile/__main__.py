"""`python -m tests.hostile`: how many attacks there are, by class, and what is asserted of each, as one JSON object.

That they hold is what `pytest tests/hostile` says: it tries every one of them.
"""

from __future__ import annotations

import collections
import json

from tests.hostile.corpus import PATH_TOOLS, attacks, surfaces

RACES = "symlink races"


def main() -> None:
    tried: dict[str, collections.Counter[str]] = {}
    for surface in surfaces():
        for attack in attacks(surface):
            tried.setdefault(attack.kind, collections.Counter())[attack.expect] += (
                len(PATH_TOOLS) if attack.kind == RACES else 1
            )
    total = sum(tried.values(), collections.Counter())
    print(json.dumps({"attacks": total.total(), **total, "classes": {kind: dict(n) for kind, n in tried.items()}}))


if __name__ == "__main__":
    main()
