"""The command line: one module a command. Importing it is cheap; a command imports what it needs when it runs."""

from runtime.cli._main import main

__all__ = ["main"]
