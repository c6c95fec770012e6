"""A file in ranges: where they lie, and its checksum from theirs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

from spotwatchd.store.checksum import CHUNK, combine, crc64nvme

# Large enough that requests cost nothing beside their bytes, small enough that the last one
# of a file does not keep the other threads waiting, and that one that broke off is cheap.
RANGE = 16 << 20


def offsets(size: int) -> Iterator[int]:
    """Where the ranges of a file of ``size`` bytes begin; an empty file has one of no bytes."""
    yield from range(0, max(1, size), RANGE)


def length(size: int, offset: int) -> int:
    """Bytes of the range at ``offset`` in a file of ``size`` bytes."""
    return min(RANGE, size - offset)


class Sums:
    """The checksums of a file's ranges, in whatever order they come. Safe for threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._of: dict[int, int] = {}
        self._missing = len(range(0, max(1, size), RANGE))
        self._lock = threading.Lock()

    def add(self, offset: int, crc: int) -> int | None:
        """Note one; the last one gets the checksum of the whole file."""
        with self._lock:
            self._of[offset] = crc
            self._missing -= 1
            return None if self._missing else self._whole()

    def _whole(self) -> int:
        def join(crc: int, offset: int) -> int:
            return combine(crc, self._of[offset], length(self._size, offset))

        first, *others = sorted(self._of)
        return reduce(join, others, self._of[first])


def local_sum(path: Path, offset: int, size: int) -> int | None:
    """The checksum of a range of a local file, None when it is shorter. Raises OSError."""
    crc, buffer = 0, memoryview(bytearray(min(CHUNK, size)))
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while size:
            got = file.readinto(buffer[:size])
            if not got:
                return None
            crc = crc64nvme(buffer[:got], crc)
            size -= got
    return crc
