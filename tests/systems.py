"""Small systems for commands, made of the programs of this machine: what a container image would hold."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

PROGRAMS = ("bash", "cat", "cmp", "env", "ls", "mkdir", "sh", "sleep", "touch")


def make_root(root: Path, *programs: str) -> Path:
    """A file system with these programs, and the libraries they need, in `/bin`; `/bin/own` marks it."""
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc" / "own").write_text("of the image\n")
    (root / "bin" / "own").write_text("#!/bin/sh\necho the image\n")
    (root / "bin" / "own").chmod(0o755)
    for program in programs or PROGRAMS:
        found = shutil.which(program)
        assert found is not None
        shutil.copy(Path(found).resolve(), root / "bin" / program)
        told = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+) \(0x", told):
            there = root / library.lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            if not there.exists():
                shutil.copy(Path(library).resolve(), there)
    return root
