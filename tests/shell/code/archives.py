"""Archives for tests: honest ones and forged ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

from spotwatchd.core.code import Bundle


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """A header."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A gzipped tar of them, as they are: nothing is checked."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for header, data in members:
            if header.isreg() and data:
                header.size = len(data)
            tar.addfile(header, io.BytesIO(data) if header.isreg() else None)
    return gzip.compress(packed.getvalue(), mtime=0)


def described(body: bytes, unpacked: int = 10_000, entries: int = 100) -> Bundle:
    """The bundle that a spec names for it."""
    return Bundle(hashlib.sha256(body).hexdigest(), len(body), unpacked, entries, "/home/a/project")


def tree(root: Path) -> dict[str, bytes | str]:
    """Every path below ``root``: contents of files, targets of links, "" for directories."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else ""
    return found
