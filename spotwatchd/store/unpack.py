"""Unpacking an archive that is not trusted: nothing is written outside the directory.

What may be in it: regular files, directories, and symbolic links that stay inside. Files are
created exclusively and never through a link, because links are made last; where they lead is
looked at when all of them are there. Sizes and counts are bounded while reading, so a bomb
ends after as many bytes as its spec declared.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from spotwatchd.errors import Damaged

_CHUNK = 1 << 20
# tarfile reads an extended header in one piece; real ones are a few hundred bytes.
_LONGEST_READ = 4 << 20
# A header, padding and extended headers for each entry, and the archive's end.
_PER_ENTRY = 8 << 10


@dataclass(frozen=True)
class Bounds:
    """What an archive may become: bytes of all files, and number of entries."""

    unpacked: int
    entries: int


class _Bounded(io.RawIOBase):
    """A stream that refuses to become longer than it was said to be."""

    def __init__(self, stream: Any, limit: int) -> None:
        super().__init__()
        self._stream = stream
        self._limit = limit

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > _LONGEST_READ:
            raise Damaged("a header of the archive is too long")
        data: bytes = self._stream.read(size)
        self._check(self._stream.tell())
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._check(offset)
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise Damaged("the archive holds more than its spec declares")


def unpack(archive: Path, target: Path, bounds: Bounds) -> None:
    """Unpack ``archive`` (tar, gzipped) as ``target``, which does not exist yet.

    Raises:
        Damaged: it is none, or holds what is not allowed. ``target`` does not exist then.
        OSError: of the local disk.
    """
    temporary = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, mode=0o700)
    try:
        with _reading(archive, bounds) as tar:
            _Unpacking(temporary, bounds).run(tar)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def _reading(archive: Path, bounds: Bounds) -> Iterator[tarfile.TarFile]:
    limit = bounds.unpacked + bounds.entries * _PER_ENTRY + (64 << 10)
    try:
        with archive.open("rb") as raw, gzip.GzipFile(fileobj=raw) as stream:
            bounded: Any = _Bounded(stream, limit)
            with tarfile.open(fileobj=bounded, mode="r:") as tar:
                yield tar
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise Damaged(f"not a readable archive: {error}", where=str(archive)) from error
    except (OverflowError, RecursionError, MemoryError) as error:
        raise Damaged(f"not a sane archive: {error!r}", where=str(archive)) from error


@dataclass
class _Unpacking:
    root: Path
    bounds: Bounds
    size: int = 0
    entries: int = 0
    links: dict[str, str] = field(default_factory=dict)

    def run(self, tar: tarfile.TarFile) -> None:
        for member in tar:
            self.entries += 1
            if self.entries > self.bounds.entries:
                raise Damaged("the archive holds more entries than its spec declares")
            self._entry(tar, member)
        self._make_links()

    def _entry(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = _checked_name(member)
        if not name:
            return
        _second_opinion(member, self.root)
        if member.isdir():
            self._directory(name)
        elif member.issym():
            self._link(name, member.linkname)
        elif member.isreg() and not member.issparse():
            self._file(tar, name, member)
        else:
            raise Damaged(f"{name!r} is neither a file, a directory nor a symbolic link")

    def _directory(self, name: str) -> None:
        path = self.root
        for part in name.split("/"):
            path /= part
            if path.is_dir():
                continue
            try:
                path.mkdir(mode=0o755)
            except OSError as error:
                raise _in_the_way(name, error) from error
        if any(link == name or name.startswith(f"{link}/") for link in self.links):
            raise Damaged(f"{name!r} lies below a link")

    def _file(self, tar: tarfile.TarFile, name: str, member: tarfile.TarInfo) -> None:
        self.size += member.size
        if self.size > self.bounds.unpacked:
            raise Damaged("the archive holds more than its spec declares")
        self._parent(name)
        if name in self.links:
            raise Damaged(f"{name!r} is there twice")
        mode = 0o755 if member.mode & 0o100 else 0o644
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self.root / name, flags, mode)
        except OSError as error:
            raise _in_the_way(name, error) from error
        source = tar.extractfile(member)
        with os.fdopen(fd, "wb") as file:
            _copy(source, file, member.size)

    def _parent(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent:
            self._directory(parent)

    def _link(self, name: str, target: str) -> None:
        if not target or target.startswith("/") or "\0" in target or len(target) > 1000:
            raise Damaged(f"the link {name!r} does not lead to a place inside")
        self._parent(name)
        if name in self.links or os.path.lexists(self.root / name):
            raise Damaged(f"{name!r} is there twice")
        self.links[name] = target

    def _make_links(self) -> None:
        for name, target in self.links.items():
            (self.root / name).symlink_to(target)
        inside = os.path.realpath(self.root)
        for name in self.links:
            # Strictly below: where the links lead only counts with all of them in place.
            real = os.path.realpath(self.root / name)
            if os.path.commonpath([inside, real]) != inside:
                raise Damaged(f"the link {name!r} leads outside")


def _copy(source: Any, file: BinaryIO, size: int) -> None:
    left = size
    while left:
        chunk = source.read(min(left, _CHUNK)) if source is not None else b""
        if not chunk:
            raise Damaged("the archive ends too early")
        file.write(chunk)
        left -= len(chunk)


def _checked_name(member: tarfile.TarInfo) -> str:
    """The member's path without a leading "./", or "" for the root itself."""
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    control = any(ord(character) < 32 or ord(character) == 127 for character in name)
    if name.startswith("/") or ".." in parts or control:
        raise Damaged(f"{name[:80]!r} is not a path inside the archive")
    if len(name) > 1000 or any(len(os.fsencode(part)) > 255 for part in parts):
        raise Damaged(f"{name[:80]!r} is too long for a path")
    return "/".join(parts)


def _second_opinion(member: tarfile.TarInfo, root: Path) -> None:
    """What the standard library's own filter thinks of it (Python 3.11.4 and later)."""
    check = getattr(tarfile, "data_filter", None)
    if check is None:
        return
    try:
        check(member, str(root))
    except tarfile.TarError as error:
        raise Damaged(f"refused: {error}") from error


def _in_the_way(name: str, error: OSError) -> Damaged:
    return Damaged(f"cannot create {name[:80]!r}: {error.strerror or error}")
