"""The registry: one file a detector. A new one is a file here, and its name in this tuple."""

from runtime.rollouts.audit.detector import Detector
from runtime.rollouts.audit.detectors import (
    benchmark,
    git_refs,
    git_revisions,
    graders,
    label,
    packages,
    reference,
    upstream,
)

__all__ = ["DETECTORS"]

DETECTORS: tuple[Detector, ...] = tuple(
    module.DETECTOR for module in (git_refs, git_revisions, upstream, packages, benchmark, reference, graders, label)
)
