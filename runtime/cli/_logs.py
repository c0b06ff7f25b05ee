"""Where log lines go: standard error, warnings and worse, as text without colours. Standard output is for results."""

from __future__ import annotations

import logging
import sys

import structlog

__all__ = ["to_stderr"]


def to_stderr() -> None:
    """Set structlog up for a command. The stream is looked up for each line: a live tree puts its own in place."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
