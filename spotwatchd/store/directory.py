"""A store in a directory: a shared file system (EFS, FSx, NFS), or a disk that stays.

Objects are plain files under their keys. Documents are numbered files (see versions.py).
The marker is looked at before every operation: it costs one stat, and a disk can be
unmounted while the daemon runs.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from spotwatchd.errors import Conflict, Damaged
from spotwatchd.store import files, making, marker, versions
from spotwatchd.store.base import Document, Limits, ObjectInfo, Part, Piece, UploadGone
from spotwatchd.store.checksum import CHUNK
from spotwatchd.store.keys import RESERVED_PREFIX, as_folder, check_document_key, check_key
from spotwatchd.store.oserrors import store_errors

# Large enough that opening the file for each costs nothing, small enough that a file which
# grows is followed closely.
PART_SIZE = 16 << 20


class DirectoryBackend:
    """See base.Backend. ``root`` is absolute; ``url`` is what people are told."""

    part_size = PART_SIZE

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url

    def unsent(self) -> int:
        """See base.Backend."""
        return 0

    def read_document(self, key: str, *, once: bool = False) -> Document | None:  # noqa: ARG002 - always
        """See base.Backend."""
        with self._doing("read", check_document_key(key)):
            return versions.read(self.root / key)

    def write_document(self, key: str, body: bytes, expected: str | None) -> str:
        """See base.Backend. The version's token is its number."""
        with self._doing("write", check_document_key(key)):
            return self._write_version(key, body, expected)

    def _write_version(self, key: str, body: bytes, expected: str | None) -> str:
        try:
            return versions.write(self.root / key, body, expected, self.root)
        except versions.Superseded as error:
            newest = error.newest or "none"
            raise Conflict(
                f"cannot write: another writer came first (expected version "
                f"{expected or 'none'}, the newest is {newest})",
                where=f"{self.url}/{key}",
            ) from None

    def begin(self, key: str, limits: Limits) -> str:
        """See base.Backend."""
        limits.check()
        with self._doing("begin", check_key(key)):
            return making.begin(self.root, key)

    def send_part(self, key: str, upload: str, number: int, piece: Piece, limits: Limits) -> Part:
        """See base.Backend."""
        with self._doing("put", check_key(key)):
            path = making.folder_of(self.root, key) / upload
            try:
                crc = making.write_part(path, (number - 1) * self.part_size, piece, limits)
            except FileNotFoundError as error:
                raise self._gone(key) from error
        return Part(number, piece.size, crc, f"{crc:016x}")

    def finish(self, key: str, upload: str, parts: Sequence[Part], limits: Limits) -> None:
        """See base.Backend. On disk, under its name, when it returns."""
        limits.check()
        parts = sorted(parts, key=lambda part: part.number)
        self._check_parts(key, parts)
        with self._doing("finish", check_key(key)):
            try:
                making.finish(self.root, key, upload, sum(part.size for part in parts))
            except FileNotFoundError as error:
                if not making.is_there(self.root / key, parts):
                    raise self._gone(key) from error

    def _gone(self, key: str) -> UploadGone:
        return UploadGone("the upload is gone", where=f"{self.url}/{key}")

    def _check_parts(self, key: str, parts: Sequence[Part]) -> None:
        whole = all(part.size == self.part_size for part in parts[:-1])
        if not whole or [part.number for part in parts] != list(range(1, len(parts) + 1)):
            raise ValueError(f"not all the parts of {key}: {parts}")

    def abort(self, key: str, upload: str) -> None:
        """See base.Backend."""
        with self._doing("abort", check_key(key)):
            making.abort(self.root, key, upload)
            self._remove_empty((self.root / key).parent)
            self._remove_empty(making.folder_of(self.root, key).parent)

    def put_piece(self, key: str, piece: Piece, limits: Limits) -> int:
        """See base.Backend."""
        target = self.root / check_key(key)
        with self._doing("put", key), self._new_file(target.parent) as (file, temporary):
            crc = making.copy_piece(piece, file.fileno(), limits)
            os.ftruncate(file.fileno(), piece.size)
            files.finish(file, piece.size)
            files.replace(temporary, target)
            return crc

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """See base.Backend. The clock is that of the machine which began the upload."""
        folder = as_folder(prefix)
        with self._doing("list", folder):
            yield from making.open_uploads(self.root, folder)

    def put_bytes(self, key: str, body: bytes, *, only_if_absent: bool = False) -> None:
        """See base.Backend."""
        target = self.root / check_key(key)
        with self._doing("put", key), self._new_file(target.parent) as (file, temporary):
            files.write_all(file, body)
            files.finish(file, len(body))
            if not only_if_absent:
                files.replace(temporary, target)
            elif not files.link_new(temporary, target):
                raise Conflict("cannot put: it exists already", where=f"{self.url}/{key}")

    @contextlib.contextmanager
    def _new_file(self, folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
        try:
            with files.temporary(folder, self.root) as made:
                yield made
        except BaseException:
            self._remove_empty(folder)
            raise

    def info(self, key: str) -> ObjectInfo | None:
        """See base.Backend. A directory keeps no checksums: read back to verify."""
        with self._doing("look at", check_key(key)):
            path = self.root / key
            return ObjectInfo(key, path.stat().st_size) if path.is_file() else None

    def read(self, key: str) -> Iterator[bytes]:
        """See base.Backend."""
        with self._doing("read", check_key(key)):
            try:
                file = (self.root / key).open("rb", buffering=0)
            except (FileNotFoundError, IsADirectoryError):
                raise KeyError(key) from None
            with file:
                while chunk := file.read(CHUNK):
                    yield chunk

    def fetch(
        self, key: str, offset: int, size: int, sink: Callable[[memoryview], None], limits: Limits
    ) -> None:
        """See base.Backend."""
        buffer = memoryview(bytearray(CHUNK))
        with self._doing("read", check_key(key)):
            try:
                file = (self.root / key).open("rb", buffering=0)
            except (FileNotFoundError, IsADirectoryError):
                raise KeyError(key) from None
            with file:
                while size:
                    limits.check()
                    got = os.preadv(file.fileno(), [buffer[:size]], offset)
                    if not got:
                        raise Damaged("the object is too short", where=f"{self.url}/{key}")
                    sink(buffer[:got])
                    offset, size = offset + got, size - got

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """See base.Backend. A document appears once, under its key."""
        folder = as_folder(prefix)
        with self._doing("list", folder):
            yield from self._walk(folder)

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        documents: dict[str, ObjectInfo] = {}
        for entry in self._entries(folder):
            key = f"{folder}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{key}/")
                continue
            with contextlib.suppress(FileNotFoundError):
                name = versions.document_name(entry.name) if key.count("/") < 2 else None
                found = ObjectInfo(f"{folder}{name or entry.name}", entry.stat().st_size)
                if name is None:
                    yield found
                else:
                    documents[name] = found
        yield from documents.values()

    def children(self, prefix: str) -> Iterator[str]:
        """See base.Backend. Names of folders with something in them: a job is one."""
        folder = as_folder(prefix)
        with self._doing("list", folder):
            for entry in self._entries(folder):
                below = f"{folder}{entry.name}/"
                if entry.is_dir(follow_symlinks=False) and any(True for _ in self._walk(below)):
                    yield entry.name

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as entries:
                found = [e for e in entries if not e.name.startswith(RESERVED_PREFIX)]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda entry: entry.name)

    def delete(self, keys: list[str]) -> None:
        """See base.Backend. Folders that become empty go too."""
        for key in keys:
            with self._doing("delete", check_key(key)):
                path = self.root / key
                path.unlink(missing_ok=True)
                if key.count("/") < 2 and key.endswith(".json"):
                    versions.delete(path)
                self._remove_empty(path.parent)

    def _remove_empty(self, directory: Path) -> None:
        with contextlib.suppress(OSError):
            while directory != self.root:
                files.remove_stale_temporaries(directory)
                directory.rmdir()
                directory = directory.parent

    def probe(self) -> None:
        """See base.Backend. Also finds a file system without link(2)."""
        key = f"{RESERVED_PREFIX}probe-{uuid.uuid4().hex}.json"
        with self._doing("probe", key):
            try:
                self._probe_conditions(key)
            finally:
                versions.delete(self.root / key)

    def _probe_conditions(self, key: str) -> None:
        first = self._write_version(key, b"1", None)
        self._write_version(key, b"2", first)
        for stale in (None, first):
            with contextlib.suppress(Conflict):
                self._write_version(key, b"3", stale)
                raise OSError("the file system gave one name to two files")

    @contextlib.contextmanager
    def _doing(self, operation: str, key: str) -> Iterator[None]:
        with store_errors(operation, self.url, key, self.root):
            marker.require(self.root, self.url, operation)
            yield
