"""Files that have not changed since the newest committed checkpoint are not sent again.

Frozen weights, tokenizers, indices: the manifest says which earlier checkpoint holds them.
A file counts as unchanged when path, size and CRC64NVME are those of an entry of the newest
listed checkpoint. To sum a file takes a pass over it, so a few probes of it are compared
first: where training has changed a file they differ, and the pass is spared.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from spotwatchd.core.head import Head
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import Manifest, StoredFile
from spotwatchd.errors import StoreError
from spotwatchd.store.base import Backend
from spotwatchd.store.checkpoints import LocalFile
from spotwatchd.store.checksum import CHUNK, crc64nvme
from spotwatchd.store.listing import read_manifest
from spotwatchd.store.patience import Patience

# A smaller file is one request, about as cheap as finding out whether it is needed.
SMALLEST = 1 << 20
# Without probes to compare, a pass over a larger file must not delay what has a deadline.
_MOST_UNDER_DEADLINE = 64 << 20
_PROBES = 16
_PROBE = 4096


@dataclass(frozen=True)
class Same:
    """What need not be sent.

    Attributes:
        base: the listed checkpoint whose manifest says where the bytes are; None: nothing.
        entries: by name, as the new manifest will have them.
    """

    base: CheckpointId | None = None
    entries: dict[str, StoredFile] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(entry.size for entry in self.entries.values())


class Unchanged:
    """Remembers the newest manifest, and probes of its files. One thread."""

    def __init__(self, backend: Backend, job: str) -> None:
        self._backend = backend
        self._job = job
        self._manifest: Manifest | None = None
        self._probes: dict[str, int] = {}
        self._next: dict[str, int] = {}

    def find(self, head: Head | None, files: Sequence[LocalFile], limits: Patience) -> Same:
        """Which of ``files`` the newest listed checkpoint has. Raises as ``limits``, OSError."""
        manifest = self._newest(head)
        self._next = {}
        if manifest is None:
            return Same()
        known = {entry.path: entry for entry in manifest.files}
        same = {}
        for file in files:
            entry = known.get(file.name)
            if entry is not None and self._is_same(file, entry, limits):
                same[file.name] = StoredFile(
                    file.name, file.size, entry.crc64nvme, manifest.holder(entry)
                )
        return Same(manifest.id if same else None, same)

    def _newest(self, head: Head | None) -> Manifest | None:
        newest = head.checkpoints[-1].id if head is not None and head.checkpoints else None
        if newest is None:
            return None
        if self._manifest is None or self._manifest.id != newest:
            self._probes = {}
            try:
                self._manifest = read_manifest(self._backend, self._job, newest)
            except StoreError:
                return None
        return self._manifest

    def _is_same(self, file: LocalFile, entry: StoredFile, limits: Patience) -> bool:
        if file.size < SMALLEST or file.size != entry.size:
            return False
        with file.path.open("rb", buffering=0) as opened:
            self._next[file.name] = _probe(opened.fileno(), file.size)
            before = self._probes.get(file.name)
            if before is None and limits.deadline is not None and file.size > _MOST_UNDER_DEADLINE:
                return False
            if before not in (None, self._next[file.name]):
                return False
            crc = _sum(opened.fileno(), limits)
            now = os.fstat(opened.fileno())
        unchanged = (now.st_size, now.st_mtime_ns) == (file.size, file.mtime_ns)
        return unchanged and crc == entry.crc64nvme

    def uploaded(self, files: Sequence[LocalFile]) -> None:
        """The files are in the store: probe those that were not. Raises OSError."""
        for file in files:
            if file.size >= SMALLEST and file.name not in self._next:
                with file.path.open("rb", buffering=0) as opened:
                    self._next[file.name] = _probe(opened.fileno(), file.size)

    def committed(self, manifest: Manifest) -> None:
        """Head lists what was looked at last."""
        self._manifest = manifest
        self._probes, self._next = self._next, {}


def _probe(file: int, size: int) -> int:
    crc = 0
    for number in range(_PROBES):
        crc = crc64nvme(os.pread(file, _PROBE, (size - _PROBE) * number // (_PROBES - 1)), crc)
    return crc


def _sum(file: int, limits: Patience) -> int:
    buffer = memoryview(bytearray(CHUNK))
    crc = 0
    while got := os.readv(file, [buffer]):
        limits.check()
        crc = crc64nvme(buffer[:got], crc)
    return crc
