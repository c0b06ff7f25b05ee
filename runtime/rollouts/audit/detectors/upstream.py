"""Fetching the project from where it is developed or published: its fix may be there.

Fetchers only: an address that is written to a file, or searched for, is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runtime.rollouts.audit.command import Command, name_of
from runtime.rollouts.audit.detector import Detector, Hit
from runtime.rollouts.audit.finding import Severity
from runtime.rollouts.audit.git import Git
from runtime.rollouts.audit.transcript import Kind, Transcript

__all__ = ["DETECTOR"]

_FETCHERS = {"curl", "wget", "http", "https", "aria2c", "lynx", "w3m", "links", "fetch", "elinks"}
_RAW = re.compile(r"\braw\.github(?:usercontent)?\.com|\bgist\.githubusercontent\.com")
_FORGES = re.compile(
    r"\b(?:github|gitlab|bitbucket|codeberg|gitee)\.(?:com|org)\b|\bpatch-diff\.githubusercontent\.com"
)
_PACKAGES = re.compile(r"\b(?:pypi\.(?:org|io)|files\.pythonhosted\.org|registry\.npmjs\.org|crates\.io)/")
_GH = {"api", "pr", "issue", "repo", "release", "browse", "search"}
_FETCHING_SUBS = {"clone", "fetch", "pull", "ls-remote"}
_REMOTE_VERBS = {"add", "update", "set-url"}
_PIP = re.compile(r"pip[\d.]*$|pipx$|uv$")
_NEW = {"-U", "--upgrade", "--target", "-t", "--no-deps", "--no-binary", "--force-reinstall"}


def find(transcript: Transcript) -> Iterator[Hit]:
    """See DETECTOR."""
    package = transcript.head.info.get("package", "")
    for event in transcript.events(Kind.CALLED):
        for command in event.commands:
            if class_ := _class(command, package):
                yield Hit(class_=class_, severity=Severity.HIGH, event=event, quote=command.source or command.argv[-1])


def _class(command: Command, package: str) -> str:
    name, words = name_of(command), command.argv[1:]
    if name in _FETCHERS:
        said = " ".join(words)
        if _RAW.search(said):
            return "raw_githubusercontent"
        if _FORGES.search(said):
            return "curl_github"
        return "pip_download" if _PACKAGES.search(said) else ""
    if name == "gh":
        return "curl_github" if words and words[0] in _GH else ""
    if name == "git":
        return "git_fetch" if _fetches(Git(command)) else ""
    return "pip_download" if _downloads(name, words, package) else ""


def _fetches(git: Git) -> bool:
    if git.sub in _FETCHING_SUBS or (git.sub == "remote" and git.words[:1] in (["add"], ["update"], ["set-url"])):
        source = next((word for word in git.words if not word.startswith("-") and word not in _REMOTE_VERBS), "")
        return not source.startswith(("/", "./", "../", "file://"))
    return git.sub == "submodule" and "--remote" in git.words


def _downloads(name: str, words: tuple[str, ...], package: str) -> bool:
    if name.startswith("python") and words[:2] == ("-m", "pip"):
        name, words = "pip", words[2:]
    if name == "uv" and words[:1] == ("pip",):
        words = words[1:]
    if name in ("npm", "yarn", "pnpm"):
        return words[:1] in (("pack",), ("view",)) and len(words) > 1
    if name in ("apt-get", "apt"):
        return words[:1] == ("source",)
    if not _PIP.match(name) or not words:
        return False
    if words[0] == "download":
        return True
    if words[0] != "install":
        return False
    names = [word for word in words[1:] if not word.startswith("-")]
    ours = package and any(re.split(r"[=<>!~\[]", word)[0].lower() == package.lower() for word in names)
    return (
        bool(ours)
        or any(_FORGES.search(word) for word in names)
        or any(word.startswith(("--target", "-t")) and word.split("=")[0] in _NEW for word in words)
    )


DETECTOR = Detector(
    name="upstream",
    classes={
        "curl_github": "a forge's pages or interface",
        "raw_githubusercontent": "files straight from a forge",
        "git_fetch": "commits from a remote",
        "pip_download": "a published release, to be looked at",
    },
    find=find,
)
