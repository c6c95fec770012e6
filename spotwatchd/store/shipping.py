"""Many files to a store at once: the parts of all of them, over one set of workers.

Any backend will do (base.Backend). Each part is tried again alone while the limits allow;
near the end, a part that takes much longer than the others is sent a second time.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from spotwatchd.errors import StoreError, StoreUnavailable
from spotwatchd.store.base import Backend, Limits, Part, UploadGone
from spotwatchd.store.checksum import crc64nvme_of_range, joined
from spotwatchd.store.growth import MOST, Stay, Workers
from spotwatchd.store.patience import cut
from spotwatchd.store.shipboard import (
    Board,
    Ended,
    HeadStart,
    Load,
    Outgoing,
    Shipped,
    Task,
    TaskLimits,
)

__all__ = ["HeadStart", "Outgoing", "Shipped", "ship", "warm"]

T = TypeVar("T")

MIB = 1 << 20
# One request instead of four, held in memory so that the bytes checked are the bytes sent.
# The same threshold as the AWS tools.
SINGLE = 8 * MIB
MOST_PARTS = 10_000  # S3's limit
# Measured where the store is never the limit: one more is no gain, and for small files, where
# Python is the limit, a loss.
START, START_SMALL = 4, 2
# S3 asks for exponential back-off after 503 SlowDown. The first pause is a few round trips;
# the longest bounds how late a store that is back gets noticed.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 3.0
_STEP = 0.1  # how late a pause notices that it is pointless
# Jitter keeps a fleet that was slowed down together from coming back together.
_JITTER = random.SystemRandom()

Trouble = Callable[[StoreUnavailable], None]


@runtime_checkable
class Warmable(Protocol):
    """A backend that can have its connections ready."""

    def warm(self, limits: Limits) -> None:
        """Open them. Raises StoreUnavailable, StoreDenied."""


def warm(backend: Backend, limits: Limits) -> None:
    """Have connections and credentials ready before they are needed.

    Never fails but by the limits: what is wrong is said when bytes are sent.
    """
    if isinstance(backend, Warmable):
        with contextlib.suppress(StoreError):
            backend.warm(limits)


def ship(
    backend: Backend,
    files: Sequence[Outgoing],
    limits: Limits,
    most: int = MOST,
    trouble: Trouble = lambda _: None,
) -> list[Shipped]:
    """Bring the files to the store; returns when it has verified all of them.

    Args:
        backend: where to.
        files: under unique keys. Their order is kept in the answer.
        limits: how long and how fast; asked from several threads.
        most: parts sent at once at most.
        trouble: told of each failure that is tried again (any thread).

    Raises:
        Damaged: a file cannot be read, or is not what was surveyed.
        StoreDenied; whatever ``limits`` raises. Uploads are aborted then, also those that
            came with a head start.
    """
    loads = [_load(backend, file) for file in files]
    board = Board(loads)
    work = _Work(backend, board, limits, trouble)
    most = min(most, sum(load.count for load in loads))
    if most:
        Workers(work.run, min(most, _start(loads)), most, board.moved).run()
    if board.failure is not None:
        _clean_up(backend, loads)
        raise board.failure
    return [load.shipped for load in loads if load.shipped is not None]


def _start(loads: Sequence[Load]) -> int:
    return START if any(load.part_size for load in loads) else START_SMALL


def _load(backend: Backend, file: Outgoing) -> Load:
    if file.head_start is None and file.size <= SINGLE:
        return Load(file, 0)
    start, size = file.head_start, _part_size(backend, file.size)
    if start is not None and file.size and size == backend.part_size:
        return Load(file, size, upload=start.upload)
    if start is not None:
        # Too large for parts of that size, or empty: what was sent early is of no use.
        with contextlib.suppress(StoreError):
            backend.abort(file.key, start.upload)
    return Load(file, size if file.size > SINGLE else 0)


def _part_size(backend: Backend, size: int) -> int:
    """The backend's own, or for a file that would have too many parts, whole MiB."""
    if size <= backend.part_size * MOST_PARTS:
        return backend.part_size
    return -(-size // (MOST_PARTS * MIB)) * MIB


def _clean_up(backend: Backend, loads: Sequence[Load]) -> None:
    """One try: what stays behind is found by ``open_uploads`` later."""
    for load in loads:
        load.close()
        if load.upload and load.shipped is None:
            with contextlib.suppress(StoreError):
                backend.abort(load.file.key, load.upload)


class _Work:
    """What each worker does until nothing is left."""

    def __init__(self, backend: Backend, board: Board, limits: Limits, trouble: Trouble) -> None:
        self._backend = backend
        self._board = board
        self._limits = limits
        self._trouble = trouble

    def run(self, stay: Stay) -> None:
        """A thread's life. Never raises: the board knows the failure."""
        try:
            while stay() and (task := self._board.take(self._limits)) is not None:
                self._do(task)
        except BaseException as error:  # noqa: BLE001 - ship() raises it
            self._board.fail(error)

    def _do(self, task: Task) -> None:
        try:
            self._send(task)
        finally:
            last = self._board.leave(task)
        if last:
            self._finish(task)

    def _send(self, task: Task) -> None:
        limits = TaskLimits(self._limits, self._board, task)
        try:
            sent = self._patiently(lambda: self._send_once(task, limits), limits)
        except Ended:
            return
        except UploadGone as error:
            self._begin_anew(task, error)
            return
        self._board.sent(task, sent)

    def _send_once(self, task: Task, limits: TaskLimits) -> Part | Shipped:
        load, file = task.load, task.load.file
        piece = load.piece(task.number)
        task.moved = 0
        if not load.part_size:
            crc = self._backend.put_piece(file.key, piece, limits)
            return Shipped(file.key, file.name, file.size, crc)
        known = file.head_start.parts.get(task.number) if file.head_start else None
        if known is not None and not task.turn and known.size == piece.size:
            found = crc64nvme_of_range(piece.file, piece.offset, piece.size, limits.check)
            if found == (known.size, known.crc64nvme):
                return known
        upload = self._upload(load, task.turn, limits)
        return self._backend.send_part(file.key, upload, task.number, piece, limits)

    def _upload(self, load: Load, turn: int, limits: TaskLimits) -> str:
        with load.beginning:
            limits.check()
            if not load.upload and load.turn == turn:
                load.upload = self._backend.begin(load.file.key, limits)
            return load.upload

    def _finish(self, task: Task) -> None:
        load, limits = task.load, TaskLimits(self._limits, self._board)
        if not load.part_size:
            assert load.shipped is not None  # noqa: S101 - nothing of it is left
            self._board.finished(load, load.shipped)
            return
        parts = [load.parts[number] for number in range(1, load.count + 1)]
        try:
            self._patiently(
                lambda: self._backend.finish(load.file.key, load.upload, parts, limits), limits
            )
        except UploadGone as error:
            self._begin_anew(task, error)
            return
        _, crc = joined((part.size, part.crc64nvme) for part in parts)
        self._board.finished(load, Shipped(load.file.key, load.file.name, load.file.size, crc))

    def _begin_anew(self, task: Task, error: UploadGone) -> None:
        self._trouble(error)
        self._pause(FIRST_PAUSE, self._limits)
        old = self._board.restart(task.load, task.turn)
        if old:
            # It may be there all the same, if what could not be found was one of its parts.
            with contextlib.suppress(StoreError):
                self._backend.abort(task.load.file.key, old)

    def _patiently(self, action: Callable[[], T], limits: Limits) -> T:
        """The action's result. Tries again, alone, while the limits allow."""
        pause = FIRST_PAUSE
        while True:
            limits.check()
            try:
                return action()
            except UploadGone:
                raise
            except StoreUnavailable as error:
                self._trouble(error)
            self._pause(pause, limits)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _pause(self, seconds: float, limits: Limits) -> None:
        end = time.monotonic() + cut(seconds * _JITTER.uniform(0.5, 1.0), limits)
        while (left := end - time.monotonic()) > 0:
            limits.check()
            time.sleep(min(left, _STEP))
