"""How far something is that takes a while: one line on a terminal that is written over, and then goes away."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.text import Text

from workspace import harmless_name

__all__ = ["ProgressLine"]


class ProgressLine:
    """Call it with each new state, `close` it before anything else is printed. Draws when called, and only then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __call__(self, line: str) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        text = Text(harmless_name(line), style="dim", no_wrap=True, overflow="ellipsis")
        self._live.update(text, refresh=True)

    def close(self) -> None:
        """Take the line away. Harmless twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None
