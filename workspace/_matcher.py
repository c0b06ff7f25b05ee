"""The child process of a search: matches a regular expression against the lines of files that it is sent.

A program, not a module: `workspace._search` runs it by its path, isolated, and kills it when its time is up.
Python's `re` can backtrack for years and holds the interpreter lock while it does, so no thread of the
runtime may run a model's pattern. It opens no file and imports nothing of this package. Its argument is how
many matches to give.

In: records, each eight bytes of big-endian length and that many bytes; first the pattern, then one file each.
Out: lines `record:line:text`, as they are found; or, for a bad pattern, exit status 2 and the reason.
"""

import re
import resource
import sys
from collections.abc import Iterator

# Enough for the largest file searched, decoded, many times over; a pattern that needs more is refused.
_MEMORY_BYTES = 1 << 30
# A backstop for the parent's own deadline, should the parent be gone.
_CPU_S = 60
# How much of a long line is shown, and how much of that stands before the match.
_SHOWN_CHARACTERS = 300
_BEFORE_CHARACTERS = 100


def _records() -> Iterator[bytes]:
    while len(header := sys.stdin.buffer.read(8)) == 8:
        yield sys.stdin.buffer.read(int.from_bytes(header, "big"))


def _shown(line: str, start: int) -> str:
    if len(line) <= _SHOWN_CHARACTERS:
        return line
    begin = max(0, start - _BEFORE_CHARACTERS)
    end = begin + _SHOWN_CHARACTERS
    return ("…" if begin else "") + line[begin:end] + ("…" if end < len(line) else "")


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    out = sys.stdout.buffer
    records = _records()
    try:
        pattern = re.compile(next(records).decode("utf-8", "surrogatepass"))
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        out.write((str(error) or type(error).__name__).encode("utf-8", "replace"))
        return 2
    left = int(sys.argv[1])
    for number, record in enumerate(records):
        for count, line in enumerate(record.decode("utf-8", "replace").split("\n"), start=1):
            if match := pattern.search(line):
                out.write(f"{number}:{count}:{_shown(line, match.start())}\n".encode())
                out.flush()
                left -= 1
                if not left:
                    return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
