"""What a detector is.

Owns the form: a name, the classes of hits that it may report with what each means, and a pure function of a
transcript. A hit's quote is text of its event, so that it can be found again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from runtime.rollouts.audit.finding import Severity
from runtime.rollouts.audit.transcript import Event, Transcript

__all__ = ["Detector", "Hit"]


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """Something found in one event."""

    class_: str
    severity: Severity
    event: Event
    quote: str


class Detector(msgspec.Struct, frozen=True, kw_only=True):
    """`find` reports hits whose classes are among `classes`."""

    name: str
    classes: Mapping[str, str]
    find: Callable[[Transcript], Iterable[Hit]]
