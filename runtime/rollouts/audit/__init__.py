"""Audits of rollouts: what was rewarded, and should not have been.

for rollout, rows in audit(read_rollouts(path), lambda _: chat):
    write_rollout(out, drop(rollout, rows))
"""

from runtime.rollouts.audit.detector import Detector, Hit
from runtime.rollouts.audit.detectors import DETECTORS
from runtime.rollouts.audit.finding import Row, Severity
from runtime.rollouts.audit.reward import drop, zero
from runtime.rollouts.audit.run import audit, inspect
from runtime.rollouts.audit.series import WATCHERS, EchoTrap, EfficiencyCollapse, PartialInputs, Watcher
from runtime.rollouts.audit.series.partial import Input, Partial, partial_inputs
from runtime.rollouts.audit.transcript import Event, Kind, Transcript, read_transcript

__all__ = [
    "DETECTORS",
    "WATCHERS",
    "Detector",
    "EchoTrap",
    "EfficiencyCollapse",
    "Event",
    "Hit",
    "Input",
    "Kind",
    "Partial",
    "PartialInputs",
    "Row",
    "Severity",
    "Transcript",
    "Watcher",
    "audit",
    "drop",
    "inspect",
    "partial_inputs",
    "read_transcript",
    "zero",
]
