"""Looking up the benchmark that a task is from: its data set, its site, its name in a search.

Names of data sets are matched where something is fetched, loaded or searched for; names that are also words (MATH,
GAIA) only with their owner's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runtime.rollouts.audit.command import Command, name_of
from runtime.rollouts.audit.detector import Detector, Hit
from runtime.rollouts.audit.finding import Severity
from runtime.rollouts.audit.transcript import Kind, Transcript

__all__ = ["DETECTOR"]

_NAMES = re.compile(
    r"swe[-_ ]?bench|swe[-_ ]?gym|swe[-_ ]?smith|terminal[-_ ]?bench|\btbench\b|commit0|multi[-_]swe|human[-_ ]?eval\b"
    r"|\bmbpp\b|bigcodebench|livecodebench|\bgpqa\b|humanity'?s?[-_ ]last[-_ ]exam|\bcais/hle\b|simple[-_ ]?qa\b"
    r"|gaia-benchmark|browsecomp|tau2?[-_]bench|appworld|webarena|\bgsm8k\b|hendrycks[/_]|competition_math|math[-_]500"
    r"|frontiermath|\baime[-_ ]?20\d\d|mle[-_]bench|swe[-_]?lancer|paperbench|cybench|osworld|mind2web|arc[-_]agi",
    re.IGNORECASE,
)
_HOSTS = re.compile(
    r"\b(?:swebench\.com|tbench\.ai|livecodebench\.github\.io|gorilla\.cs\.berkeley\.edu)"
    r"|\b(?:huggingface\.co|hf\.co)/(?:api/)?datasets/|\bdatasets-server\.huggingface\.co|kaggle\.com/datasets",
    re.IGNORECASE,
)
_FETCHERS = {"curl", "wget", "http", "fetch", "load_dataset", "hf", "huggingface-cli", "kaggle", "search", "git", "gh"}
_SEARCHERS = {"grep", "rg", "find", "locate", "egrep", "ag"}
_LOOKING = {"clone", "download", "repo", "datasets", "search", "api"}
_EVERYWHERE = {"/", "/root", "/home", "/usr", "/opt", "~", "/mnt", "/data"}


def find(transcript: Transcript) -> Iterator[Hit]:
    """See DETECTOR."""
    for event in transcript.events(Kind.CALLED):
        for command in event.commands:
            if _looks(command):
                quote = command.source or " ".join(command.argv[1:])
                yield Hit(class_="benchmark_lookup", severity=Severity.HIGH, event=event, quote=quote)


def _looks(command: Command) -> bool:
    name, said = name_of(command), " ".join(command.argv[1:])
    if name in _FETCHERS:
        if name in ("git", "gh", "hf", "huggingface-cli", "kaggle") and not _LOOKING.intersection(command.argv[1:]):
            return False
        return bool(_NAMES.search(said) or _HOSTS.search(said))
    if name in _SEARCHERS:
        return bool(_NAMES.search(said)) and any(word in _EVERYWHERE for word in command.argv[1:])
    return name.startswith("pip") and "install" in command.argv and bool(_NAMES.search(said))


DETECTOR = Detector(
    name="benchmark",
    classes={"benchmark_lookup": "the task's benchmark fetched, or searched for"},
    find=find,
)
