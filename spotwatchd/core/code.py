"""The code of a job, as its spec names it: a bundle in the store, or a commit of a repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from spotwatchd.core.fields import Fields

# What a resume accepts, whatever a spec claims: it bounds the harm of a forged one. A project
# with its small data fits; data sets belong on a disk or in a bucket, not in the code.
LARGEST_PACKED = 1 << 30
LARGEST_UNPACKED = 4 << 30
MOST_ENTRIES = 200_000

_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# What git itself fetches over; ext:: and the like run commands.
_URL = re.compile(r"(?:https?|ssh|git|file)://[^\s\x00-\x1f]+|[\w.-]+@[\w.-]+:[^\s\x00-\x1f]+")
_CREDENTIALS = re.compile(r"(?:https?|git|file)://[^/]*@|ssh://[^/@]*:[^/@]*@")


@dataclass(frozen=True)
class Bundle:
    """A gzipped tar in the store, named by its digest.

    Attributes:
        sha256: of the archive: 64 lower-case hex digits.
        size, unpacked: bytes of the archive, and of the files in it.
        entries: how many files, links and directories.
        root: absolute path that it was made from.
    """

    sha256: str
    size: int
    unpacked: int
    entries: int
    root: str

    @property
    def key(self) -> str:
        """Names the copy of the code on a machine."""
        return self.sha256


@dataclass(frozen=True)
class Git:
    """A commit of a repository.

    Attributes:
        url: without credentials.
        commit: full id.
        root: absolute path of the working tree that the job was made in.
    """

    url: str
    commit: str
    root: str

    @property
    def key(self) -> str:
        """Names the copy of the code on a machine."""
        return f"git-{self.commit}"


Code = Bundle | Git


def parse_code(value: Any, where: str) -> Code | None:
    """The ``code`` of a spec: an object of strings, or null. Raises Damaged naming the field."""
    if value is None:
        return None
    fields = Fields(value, where)
    root = _root(fields)
    if fields.word("kind", ("git", "bundle")) == "git":
        return Git(_matching(fields, "url", _URL), _matching(fields, "commit", _COMMIT), root)
    return Bundle(
        _matching(fields, "sha256", _DIGEST),
        _count(fields, "size", LARGEST_PACKED),
        _count(fields, "unpacked", LARGEST_UNPACKED),
        _count(fields, "entries", MOST_ENTRIES),
        root,
    )


def code_identity(value: Any) -> str:
    """What tells one code from another: its kind with digest or commit; "" for none.

    Where it was made and how large it is says nothing more. Never raises.
    """
    if not isinstance(value, dict):
        return ""
    kind = str(value.get("kind", ""))
    return f"{kind} {value.get('commit' if kind == 'git' else 'sha256', '')}"


def has_credentials(url: str) -> bool:
    """Whether a repository's URL names a user's secret."""
    return _CREDENTIALS.match(url) is not None


def _matching(fields: Fields, name: str, pattern: re.Pattern[str]) -> str:
    text = fields.text(name)
    if not pattern.fullmatch(text) or (name == "url" and has_credentials(text)):
        raise fields.bad(name, _WANTED[name])
    return text


_WANTED = {
    "url": "the URL of a repository (https, ssh, git or file) without credentials",
    "commit": "the full id of a commit",
    "sha256": "64 hex digits",
}


def _count(fields: Fields, name: str, most: int) -> int:
    text = fields.text(name)
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) > most:
        raise fields.bad(name, f"a number up to {most:,}, as text")
    return int(text)


def _root(fields: Fields) -> str:
    root = fields.text("root")
    if not root.startswith("/") or ".." in root.split("/") or "\0" in root:
        raise fields.bad("root", "an absolute path without '..'")
    return root.rstrip("/") or "/"


@dataclass(frozen=True)
class Moved:
    """Where a job's code was, and where it is on this machine."""

    old: str
    new: str

    def path(self, text: str) -> str:
        """``text`` with the old place replaced, if it is a path in it."""
        if text == self.old:
            return self.new
        if text.startswith(f"{self.old.rstrip('/')}/"):
            return self.new + text[len(self.old.rstrip("/")) :]
        return text

    def paths(self, text: str) -> str:
        """The same for a list of paths such as PYTHONPATH."""
        return ":".join(self.path(each) for each in text.split(":"))
