"""Documents with conditional writes in a directory, on any file system with link(2).

A document ``lease.json`` is a row of files ``lease.json.000000012``; the highest number
is the document. To write after version 12 is to create the name of version 13, and
link(2) lets exactly one machine do that, also over NFS.

Old versions are pruned, so a name can become free again: a writer that slept for a long
time could create version 6 when 17 to 20 are there. Therefore every writer lists after
its link, and a higher number means that it lost. Nobody can have taken the stale version
for the newest meanwhile, because the newest is never pruned.

It also loses when somebody already built on its version before it listed. Then the write
did happen, and whoever reads back finds its own mark in what was built on it.

An NFS client may answer a listing from its cache. Creating a file in a directory makes it
ask the server, and a writer creates its temporary file before it looks at the numbers. A
*reader* may be behind by the mount's attribute cache (acdirmax, 60 s unless set): it sees
an older truth, and a write based on it is refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from spotwatchd.errors import Damaged
from spotwatchd.store import files
from spotwatchd.store.base import Document
from spotwatchd.store.checksum import chunks_of
from spotwatchd.store.keys import DOCUMENT_LIMIT

# Enough for a reader to open what it has just listed, and for a person to look back.
KEEP = 4
_VERSION = re.compile(r"(?P<name>.+\.json)\.(?P<number>[0-9]{9})")
# Each round is lost only to a writer that pruned what was listed a moment before.
_READ_ROUNDS = 100


class Superseded(Exception):
    """Another version is the newest one."""

    def __init__(self, newest: int) -> None:
        super().__init__(f"version {newest} is the newest")
        self.newest = newest


def document_name(file_name: str) -> str | None:
    """``lease.json`` for ``lease.json.000000012``; None for other names."""
    match = _VERSION.fullmatch(file_name)
    return match["name"] if match else None


def numbers(document: Path) -> list[int]:
    """The version numbers that exist, lowest first. Raises OSError."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in document.parent.iterdir():
            match = _VERSION.fullmatch(path.name)
            if match and match["name"] == document.name:
                found.append(int(match["number"]))
    return sorted(found)


def path_of(document: Path, number: int) -> Path:
    """The file that holds a version."""
    return document.with_name(f"{document.name}.{number:09d}")


def read(document: Path) -> Document | None:
    """The newest version. Raises OSError."""
    for _ in range(_READ_ROUNDS):
        # A listing during which every version was replaced may show none of them: ask twice.
        newest = _newest(document) or _newest(document)
        if not newest:
            return None
        with contextlib.suppress(FileNotFoundError):
            return Document(_read_limited(path_of(document, newest)), str(newest))
    raise OSError(f"{document} changes faster than it can be read")


def _read_limited(path: Path) -> bytes:
    # Not blocking: a pipe of that name would hold up the look at every other job.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise Damaged("it is not a file", where=str(path), remedy="look who made it")
    with os.fdopen(fd, "rb", buffering=0) as file:
        size = info.st_size
        if size > DOCUMENT_LIMIT:
            raise Damaged(
                f"a document of {size} bytes is no document of ours",
                where=str(path),
                remedy=f"documents have at most {DOCUMENT_LIMIT} bytes: look who wrote it",
            )
        return b"".join(chunks_of(file))


def write(document: Path, body: bytes, expected: str | None, root: Path) -> str:
    """Make the next version if ``expected`` is the newest. Raises Superseded, OSError."""
    with files.temporary(document.parent, root) as (file, temporary):
        newest = _newest(document)
        if (str(newest) if newest else None) != expected:
            raise Superseded(newest)
        files.write_all(file, body)
        files.finish(file, len(body))
        _publish(document, temporary, newest + 1)
    _prune(document, newest + 1)
    return str(newest + 1)


def _newest(document: Path) -> int:
    return max(numbers(document), default=0)


def _publish(document: Path, temporary: Path, number: int) -> None:
    target = path_of(document, number)
    won = files.link_new(temporary, target)
    newest = _newest(document)
    if newest > number:
        if won:
            target.unlink(missing_ok=True)
        raise Superseded(newest)
    if not won:
        raise Superseded(newest)


def _prune(document: Path, newest: int) -> None:
    """Best effort: the write has happened, and what is left over goes with the next one."""
    with contextlib.suppress(OSError):
        for number in numbers(document):
            if number <= newest - KEEP:
                path_of(document, number).unlink(missing_ok=True)
        files.remove_stale_temporaries(document.parent)


def delete(document: Path) -> None:
    """Remove every version, the newest last: readers never see an older truth come back."""
    for number in numbers(document):
        path_of(document, number).unlink(missing_ok=True)
