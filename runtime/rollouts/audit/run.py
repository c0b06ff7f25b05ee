"""An audit: rollouts in, rows out, in the memory of one rollout.

Owns the order: each rollout is decoded once, every detector looks at it, hits become rows with how far they reach;
watchers see all of them and speak at the end. Knows no file and no command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from agents.chat import Chat
from runtime.rollouts.audit.detector import Detector, Hit
from runtime.rollouts.audit.detectors import DETECTORS
from runtime.rollouts.audit.finding import Row, one_line
from runtime.rollouts.audit.series import Watcher
from runtime.rollouts.audit.taint import Flow, flows_of, spread
from runtime.rollouts.audit.transcript import Transcript, read_transcript
from runtime.rollouts.schema import Rollout

__all__ = ["audit", "inspect"]


def audit(
    rollouts: Iterable[Rollout],
    chat_of: Callable[[Rollout], Chat],
    *,
    detectors: Sequence[Detector] = DETECTORS,
    watchers: Sequence[Watcher] = (),
) -> Iterator[tuple[Rollout, list[Row]]]:
    """Each rollout with its rows, as it is read. What the watchers say is theirs to be asked for when all is read."""
    for rollout in rollouts:
        transcript = read_transcript(rollout, chat_of(rollout))
        for watcher in watchers:
            watcher.observe(transcript)
        yield rollout, inspect(transcript, detectors)


def inspect(transcript: Transcript, detectors: Sequence[Detector] = DETECTORS) -> list[Row]:
    """The rows of one rollout, in the order of its edges, each once."""
    hits = [hit for detector in detectors for hit in detector.find(transcript)]
    flows = flows_of(transcript) if hits else []
    rows = {_row(hit, transcript, flows): None for hit in hits}
    return sorted(rows, key=lambda row: (row.segment, row.span, row))


def _row(hit: Hit, transcript: Transcript, flows: Sequence[Flow]) -> Row:
    event = hit.event
    span = transcript.span_of(event, hit.quote)
    return Row(
        class_=hit.class_,
        severity=hit.severity.name.lower(),
        agent=event.agent,
        turn=event.turn,
        segment=event.edge,
        span=span,
        quote=one_line(hit.quote),
        rollout=transcript.head.id,
        taints=tuple(sorted(spread([(event.edge, span[0])], flows))),
    )
