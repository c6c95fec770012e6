"""Ranges of a checkpoint's files, several at once, into files that are as long as they will be.

All ranges of all files are one list, from which a few threads take the next one: many small
files and one large one keep them equally busy, and memory does not depend on either. Each
range is summed while it arrives, and tried again alone from where it broke off.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from spotwatchd.core.manifest import StoredFile
from spotwatchd.errors import Damaged, StoreUnavailable
from spotwatchd.store.base import Backend, Limits
from spotwatchd.store.checksum import CHUNK, crc64nvme
from spotwatchd.store.crew import Crew
from spotwatchd.store.growth import MOST
from spotwatchd.store.partial import Partial
from spotwatchd.store.ranges import RANGE, Sums, length, offsets

# Measured where the store is never the limit.
# For small files Python is the limit, and threads contend for it.
START, START_SMALL = 8, 2
# Tries of one range without a single byte. Then the caller hears of it, and what has arrived
# stays: 0.2 + 0.4 + 0.8 + 1.6 s of pauses ride out a server that restarts.
_TRIES = 5
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0
# A fleet that was slowed down together should not come back together.
_JITTER = random.SystemRandom()
# A bytearray compares with any buffer by memcmp; bytes and memoryviews do not.
_ZEROS = bytearray(CHUNK)
_PEEK = bytes(16)


@dataclass(frozen=True)
class Wanted:
    """A file to be fetched.

    Attributes:
        number: in the manifest.
        key: of the object in the store.
    """

    number: int
    entry: StoredFile
    key: str


@dataclass
class _File:
    wanted: Wanted
    sums: Sums
    lock: threading.Lock = field(default_factory=threading.Lock)
    descriptor: int = -1


class _LocalTrouble(Exception):
    """The local disk refuses; a backend must not take that for the store's own trouble."""

    def __init__(self, error: OSError) -> None:
        self.error = error


class _Landing:
    """Where the bytes of one range go."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self.crc = 0
        self.at = offset
        self.left = size
        self._descriptor = descriptor
        # Zeros need not be written where nothing is yet. What an earlier try left behind may
        # differ from what comes now.
        self._fresh = _is_hole(descriptor, offset, size)

    def sink(self, view: memoryview) -> None:
        """The next bytes. Raises Damaged, _LocalTrouble."""
        size = len(view)
        if size > self.left:
            raise Damaged("the store sends more bytes than it was asked for")
        self.crc = crc64nvme(view, self.crc)
        if not (self._fresh and _is_zero(view)):
            try:
                _write(self._descriptor, view, self.at)
            except OSError as error:
                raise _LocalTrouble(error) from error
        self.at, self.left = self.at + size, self.left - size


def _is_hole(descriptor: int, offset: int, size: int) -> bool:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) >= offset + size
    except OSError:  # ENXIO: no data from there on
        return True


def _is_zero(view: memoryview) -> bool:
    size = len(view)
    if view[:16] != _PEEK[:size]:
        return False
    return (_ZEROS if size == CHUNK else bytearray(size)) == view


def _write(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done


class Fetching:
    """One download. See the head of this file.

    Args:
        partial: where the bytes go.
        limits: of the whole of it.
        most: threads that fetch at once at most.
    """

    def __init__(
        self, backend: Backend, partial: Partial, limits: Limits, most: int = MOST
    ) -> None:
        self.fetched = self._moved = 0
        self._backend = backend
        self._partial = partial
        self._limits = limits
        self._crew = Crew(self._do, min(most, START), most, lambda: self._moved)
        self._start_small = min(most, START_SMALL)
        self._lock = threading.Lock()
        self._open: dict[int, _File] = {}

    def run(self, files: Sequence[Wanted], first: Callable[[], None]) -> None:
        """Fetch them all; ``first`` is done beside them, and its failure ends it all.

        Raises:
            Damaged: a file is missing, or its bytes are not those of the manifest.
            StoreUnavailable: too many tries of one range failed. What arrived stays.
            StoreDenied, OSError, and what the limits raise.
        """
        if all(wanted.entry.size < RANGE for wanted in files):
            self._crew.start = self._start_small
        try:
            self._crew.run(_beside(first, self._ranges(files)))
        finally:
            for file in self._open.values():
                os.close(file.descriptor)

    def _ranges(self, files: Sequence[Wanted]) -> Iterator[tuple[_File, int]]:
        for wanted in files:
            file = _File(wanted, Sums(wanted.entry.size))
            for offset in offsets(wanted.entry.size):
                yield file, offset

    def _do(self, item: tuple[_File, int] | Callable[[], None]) -> None:
        if not isinstance(item, tuple):
            item()
            return
        file, offset = item
        wanted = file.wanted
        size = length(wanted.entry.size, offset)
        crc = self._partial.find(wanted.number, wanted.entry, offset, size)
        if crc is None:
            crc = self._fetch(file, offset, size)
            self._partial.note(wanted.number, offset, crc)
        whole = file.sums.add(offset, crc)
        if whole is not None:
            self._finish(file, whole)

    # ------------------------------------------------------------------ one range

    def _fetch(self, file: _File, offset: int, size: int) -> int:
        landing = _Landing(self._descriptor(file), offset, size)
        failures = 0
        while landing.left:
            before = landing.left
            try:
                self._try(file.wanted.key, landing)
            except StoreUnavailable:
                failures = failures + 1 if landing.left == before else 1
                if failures >= _TRIES:
                    raise
                self._pause(failures)
        with self._lock:
            self.fetched += size
        return landing.crc

    def _try(self, key: str, landing: _Landing) -> None:
        try:
            self._backend.fetch(key, landing.at, landing.left, self._counted(landing), self)
        except _LocalTrouble as trouble:
            raise trouble.error from None
        except KeyError:
            raise Damaged("a file is missing", where=f"{self._backend.url}/{key}") from None
        if landing.left:
            raise Damaged("the object is too short", where=f"{self._backend.url}/{key}")

    def _counted(self, landing: _Landing) -> Callable[[memoryview], None]:
        def sink(view: memoryview) -> None:
            landing.sink(view)
            self._moved += len(view)  # a lost update now and then does no harm

        return sink

    def _pause(self, failures: int) -> None:
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (failures - 1))
        self._crew.stop.wait(self.left(longest * _JITTER.uniform(0.5, 1.0)))
        self.check()

    def _descriptor(self, file: _File) -> int:
        with file.lock:
            if file.descriptor < 0:
                file.descriptor = self._partial.open_file(file.wanted.number, file.wanted.entry)
                with self._lock:
                    self._open[file.wanted.number] = file
            return file.descriptor

    def _finish(self, file: _File, crc: int) -> None:
        number, entry = file.wanted.number, file.wanted.entry
        if not entry.size:
            self._descriptor(file)  # no range of it was fetched
        with self._lock:
            opened = self._open.pop(number, None)
        if opened is not None:
            os.close(opened.descriptor)
        if crc != entry.crc64nvme:
            self._partial.forget(number, entry)
            raise Damaged(
                f"its CRC64NVME is {crc:016x}, the manifest says {entry.crc64nvme:016x}",
                where=f"{self._backend.url}/{file.wanted.key}",
            )

    # ------------------------------------------------------------------ the limits of one try

    def check(self) -> None:
        """See base.Limits."""
        self._crew.check()
        self._limits.check()

    def left(self, most: float) -> float:
        """See base.Limits."""
        return self._limits.left(most)

    def spend(self, size: int) -> None:
        """See base.Limits."""
        self._limits.spend(size)


def _beside(
    first: Callable[[], None], ranges: Iterator[tuple[_File, int]]
) -> Iterator[tuple[_File, int] | Callable[[], None]]:
    yield first
    yield from ranges
