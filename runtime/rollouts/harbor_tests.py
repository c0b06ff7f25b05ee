"""The tests of a Harbor task, as a reward.

Owns how they are run and what their verdict means, which is what Harbor 0.26 does, but for what `harbor` names:
`tests/test.sh` runs after the attempt, where its first line says by what, else by bash; the folder's tests are at
`/tests`, read-only, so nothing that an agent wrote can take their place; `/logs/verifier` is empty and writable. The
verdict is `reward.json`, or `reward.txt` where there is none: numbers by name, or one number. Of several, `reward`
counts if it is there, else their mean. The exit code of `test.sh` counts nothing.
"""

from __future__ import annotations

import shlex
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread
import msgspec

from runtime.rollouts.reward import sandbox_of
from runtime.rollouts.schema import Rollout, Term
from workspace import NOT_JSON, Mount, Sandbox

__all__ = ["SCRIPT", "VERIFIER_S", "HarborTests"]

SCRIPT = "test.sh"
VERIFIER_S = 600.0  # Harbor's own default
SHOWN_CHARS = 200
VERDICT_BYTES = 1 << 20  # nobody needs more for a few numbers
LINE_BYTES = 256  # of a script's first line, as the kernel reads it


@dataclass(frozen=True)
class HarborTests:
    """The reward of a Harbor task: what its `test.sh` writes. Terms are shared by all.

    `image`: the task was made for one, so the script finds the working directory where the image has it; else at
    `/app`, where most images do.
    """

    tests: Path
    timeout_s: float = VERIFIER_S
    env: Mapping[str, str] = field(default_factory=dict)
    image: bool = False
    name: str = "tests"
    weight: float = 1.0

    async def terms(self, rollout: Rollout, directory: Path) -> Sequence[Term]:
        """See Reward. Raises CommandRefused without a sandbox, TimeoutError, ValueError for any other verdict."""
        with (
            tempfile.TemporaryDirectory(prefix="ramet-verdict-") as verdict,
            tempfile.TemporaryDirectory(prefix="ramet-harbor-") as made,
        ):
            logs, output = Path(verdict), Path(made, "output.txt")
            sandbox = await anyio.to_thread.run_sync(self._sandbox, rollout, directory, logs)
            command = await anyio.to_thread.run_sync(_command, self.tests / SCRIPT)
            done = await sandbox.run(command, timeout_s=self.timeout_s, output_path=output)
            if done.timed_out:
                raise TimeoutError(f"test.sh did not end in {self.timeout_s:g} s")
            try:
                scores = await anyio.to_thread.run_sync(_verdict, logs)
            except FileNotFoundError:
                last = " ".join(done.output.split())[-SHOWN_CHARS:]
                raise ValueError(f"test.sh wrote no reward (exit code {done.exit_code}): {last}") from None
        root = rollout.head.members[0].id
        # Of several figures `reward` is the one that counts, the others are for whoever reads.
        counts = {"reward"} if "reward" in scores else set(scores)
        return [
            Term(
                name=self.name if name == "reward" else f"{self.name}.{name}",
                agent=root,
                score=value,
                weight=self.weight / len(counts) if name in counts else 0.0,
                shared=True,
            )
            for name, value in scores.items()
        ]

    def _sandbox(self, rollout: Rollout, directory: Path, logs: Path) -> Sandbox:
        """One that has the tests, and an empty place for the verdict, where Harbor's scripts look for them."""
        app = [] if self.image else [Mount(source=directory.resolve(), target=Path("/app"), writable=True)]
        tests = Mount(source=self.tests.resolve(), target=Path("/tests"))
        verdict = Mount(source=logs.resolve(), target=Path("/logs/verifier"), writable=True)
        return sandbox_of(rollout, directory, mounts=[*app, tests, verdict], environment=self.env)


def _command(script: Path) -> str:
    """What runs the script: it need not be executable, and cannot be made so where it is read-only."""
    with script.open("rb") as file:
        first = file.readline(LINE_BYTES).decode("utf-8", "replace")
    words = first[2:].split(None, 1) if first.startswith("#!") else []
    return shlex.join([*(word.strip() for word in words or ["bash"]), f"/tests/{SCRIPT}"])


def _verdict(logs: Path) -> dict[str, float]:
    """What was written there. Raises FileNotFoundError, or ValueError, which names the file."""
    if (said := _written(logs / "reward.json")) is not None:
        return _several(said)
    if (said := _written(logs / "reward.txt")) is None:
        raise FileNotFoundError
    try:
        return {"reward": float(said)}
    except ValueError:
        raise ValueError(f"reward.txt: no number: {said[:SHOWN_CHARS]!r}") from None


def _several(said: str) -> dict[str, float]:
    try:
        read = msgspec.json.decode(said, type=float | bool | dict[str, float | bool])
    except NOT_JSON as error:
        raise ValueError(f"reward.json: {error}") from error
    scores = read if isinstance(read, dict) else {"reward": read}
    if not scores:
        raise ValueError("reward.json: there is no number in it")
    return {name: float(value) for name, value in scores.items()}


def _written(path: Path) -> str | None:
    """A file's text, None where there is none. What an agent made may run in the tests: no link of it is followed."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError(f"{path.name}: not a plain file")
        with path.open("rb") as file:
            return file.read(VERDICT_BYTES).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
