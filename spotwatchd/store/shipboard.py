"""What there is to send, what is on its way, and what may be sent a second time.

Tasks are made when a worker asks for one, so a checkpoint of any size costs the memory of
what is on its way, and few files are open at once. No backend is known here.
"""

from __future__ import annotations

import itertools
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.errors import Damaged
from spotwatchd.store.base import Limits, Part, Piece
from spotwatchd.store.oserrors import local_errors

# A part is sent a second time when it has taken so much longer than the usual one, and at
# least so many seconds: a shorter delay is not worth the bytes.
SLOW_FACTOR = 2.0
SLOW_SECONDS = 0.5
# How many finished parts say what is usual, and how many it takes to say so.
_REMEMBERED = 64
_ENOUGH = 3


@dataclass(frozen=True)
class HeadStart:
    """Parts that were sent while the file was still being written.

    Attributes:
        upload: the token of ``begin``.
        parts: by number, each of the backend's ``part_size`` or the last one.
    """

    upload: str
    parts: Mapping[int, Part]


@dataclass(frozen=True)
class Outgoing:
    """A sealed file on its way.

    Attributes:
        key: unique, in the store.
        path: on the local disk.
        name: in the manifest.
        size: bytes, as surveyed.
        head_start: what of it was sent before its seal.
    """

    key: str
    path: Path
    name: str
    size: int
    head_start: HeadStart | None = None


@dataclass(frozen=True)
class Shipped:
    """A file that the store has, verified."""

    key: str
    name: str
    size: int
    crc64nvme: int


@dataclass
class Load:
    """A file while it is being sent.

    Attributes:
        part_size: bytes of each part but the last; 0: it goes in one request.
        upload: the token, "" before ``begin``.
        turn: grows when everything has to be sent anew.
        parts: those that the store has, in this turn.
        left: tasks that are not done.
        busy: workers that are in it.
    """

    file: Outgoing
    part_size: int
    upload: str = ""
    turn: int = 0
    parts: dict[int, Part] = field(default_factory=dict)
    left: int = 0
    busy: int = 0
    finishing: bool = False
    shipped: Shipped | None = None
    beginning: threading.Lock = field(default_factory=threading.Lock)
    descriptor: int | None = None

    @property
    def count(self) -> int:
        """How many tasks it has."""
        return max(1, -(-self.file.size // self.part_size)) if self.part_size else 1

    def piece(self, number: int) -> Piece:
        """The bytes of a task."""
        offset = (number - 1) * self.part_size
        return Piece(self.opened(), self.file.path, offset, self.size_of(number))

    def size_of(self, number: int) -> int:
        """How many bytes a task has."""
        if not self.part_size:
            return self.file.size
        return min(self.part_size, self.file.size - (number - 1) * self.part_size)

    def opened(self) -> int:
        """A descriptor. Raises Damaged when the file is not what was surveyed."""
        with self.beginning:
            if self.descriptor is None:
                with local_errors(self.file.path, self.file.key):
                    self.descriptor = os.open(self.file.path, os.O_RDONLY | os.O_CLOEXEC)
                if os.fstat(self.descriptor).st_size != self.file.size:
                    raise changed(self.file)
            return self.descriptor

    def close(self) -> None:
        """Close the file, if it is open."""
        with self.beginning:
            if self.descriptor is not None:
                os.close(self.descriptor)
                self.descriptor = None


@dataclass(eq=False)
class Task:
    """One part of a load, or all of a small one.

    Attributes:
        began: time.monotonic() of its first send.
        moved: bytes of it that were given to the network, in the newest try.
        moved_at: time.monotonic() of the newest of them.
        senders: workers that have it; two when it is hedged.
        done: the store has it.
    """

    load: Load
    number: int
    turn: int
    began: float = 0.0
    moved: int = 0
    moved_at: float = 0.0
    senders: int = 0
    hedged: bool = False
    done: bool = False


def _is_late(task: Task, now: float, typical: float) -> bool:
    """Whether a second try would get it there sooner.

    Where the link is full, all parts are slow and none is late: to send one of them twice
    would only make the others slower.
    """
    elapsed, size = now - task.began, task.load.size_of(task.number)
    if elapsed < max(SLOW_SECONDS, SLOW_FACTOR * typical):
        return False
    if task.moved >= size:
        return now - task.moved_at > max(SLOW_SECONDS, typical)
    return elapsed * (size - task.moved) > typical * task.moved


def _by_turns(load: Load) -> Iterator[int]:
    """Parts to be sent and parts that need only be summed, one of each in turn.

    Sending waits for the link and summing for a core: neither should wait for the other.
    """
    start = load.file.head_start
    there = start.parts if start is not None else {}
    send = (number for number in range(1, load.count + 1) if number not in there)
    known = (number for number in range(1, load.count + 1) if number in there)
    for pair in itertools.zip_longest(send, known):
        yield from (number for number in pair if number is not None)


class Ended(Exception):
    """Another worker has failed, or has sent this part first."""


class Board:
    """Gives out tasks and takes them back. Safe for threads."""

    def __init__(self, loads: Sequence[Load]) -> None:
        self.failure: BaseException | None = None
        self._ready = threading.Condition()
        self._loads = loads
        self._unfinished = len(loads)
        self._fresh = self._tasks(loads)
        self._again: deque[Task] = deque()
        self._out: set[Task] = set()
        self._took: deque[float] = deque(maxlen=_REMEMBERED)
        self._moved = 0

    def _tasks(self, loads: Sequence[Load]) -> Iterator[Task]:
        for load in loads:
            load.left = load.count
            for number in _by_turns(load):
                yield Task(load, number, load.turn)

    def fail(self, error: BaseException) -> None:
        """Everybody stops; the first reason counts."""
        with self._ready:
            self.failure = self.failure or error
            self._ready.notify_all()

    def restart(self, load: Load, turn: int) -> str:
        """Its upload is gone: send all of it anew (once for all workers of that turn).

        Returns the old upload's token, or "" if somebody else was first.
        """
        with self._ready:
            if load.turn != turn:
                return ""
            load.turn += 1
            old = load.upload
            load.upload, load.parts, load.left = "", {}, load.count
            load.finishing = False
            self._again.extend(Task(load, n, load.turn) for n in range(1, load.count + 1))
            self._ready.notify_all()
            return old

    def take(self, limits: Limits) -> Task | None:
        """The next task: a new one, else a slow one for the second time; None at the end."""
        with self._ready:
            while self.failure is None and self._unfinished:
                task = self._next()
                if task is not None:
                    task.senders += 1
                    task.load.busy += 1
                    self._out.add(task)
                    return task
                self._ready.wait(0.1)
                limits.check()
            return None

    def _next(self) -> Task | None:
        while self._again:
            task = self._again.popleft()
            if task.turn == task.load.turn:
                task.began = time.monotonic()
                return task
        fresh = next(self._fresh, None)
        if fresh is None:
            return self._slow()
        fresh.began = time.monotonic()
        return fresh

    def _slow(self) -> Task | None:
        if len(self._took) < _ENOUGH:
            return None
        now, typical = time.monotonic(), statistics.median(self._took)
        slow = (t for t in self._out if not (t.hedged or t.done) and _is_late(t, now, typical))
        oldest = min(slow, key=lambda task: task.began, default=None)
        if oldest is not None:
            oldest.hedged = True
        return oldest

    def sent(self, task: Task, part: Part | Shipped) -> None:
        """The store has it: the first sender's word counts."""
        with self._ready:
            load = task.load
            if task.done or task.turn != load.turn:
                return
            task.done = True
            load.left -= 1
            if task.moved:  # else it was there already
                self._took.append(time.monotonic() - task.began)
                self._moved += load.size_of(task.number)
            if isinstance(part, Part):
                load.parts[part.number] = part
            else:
                load.shipped = part

    def moved(self) -> int:
        """Bytes given to the network so far, those sent in vain left out."""
        with self._ready:
            return self._moved + sum(task.moved for task in self._out if not task.done)

    def leave(self, task: Task) -> bool:
        """A worker is through with it. Returns whether this worker shall finish the file.

        That is the last one to leave: no second sender may still be writing then.
        """
        with self._ready:
            task.senders -= 1
            load = task.load
            load.busy -= 1
            if not task.senders:
                self._out.discard(task)
            if load.left or load.busy or load.finishing or self.failure is not None:
                return False
            load.finishing = True
            return True

    def finished(self, load: Load, shipped: Shipped) -> None:
        """The store has the file."""
        load.close()
        with self._ready:
            load.shipped = shipped
            self._unfinished -= 1
            if not self._unfinished:
                self._ready.notify_all()


@dataclass(frozen=True)
class TaskLimits:
    """The operation's limits, and the end of a task that somebody else has ended."""

    limits: Limits
    board: Board
    task: Task | None = None

    def check(self) -> None:
        """See base.Limits. Raises Ended, too."""
        task = self.task
        if self.board.failure is not None:
            raise Ended
        if task is not None and (task.done or task.turn != task.load.turn):
            raise Ended
        self.limits.check()

    def left(self, most: float) -> float:
        """See base.Limits."""
        return self.limits.left(most)

    def spend(self, size: int) -> None:
        """See base.Limits."""
        self.check()
        self.limits.spend(size)
        if self.task is not None:
            self.task.moved += size
            self.task.moved_at = time.monotonic()


def changed(file: Outgoing) -> Damaged:
    """The file is not what was sealed."""
    return Damaged(
        "the checkpoint changed while it was stored",
        where=str(file.path),
        remedy="write to a temporary name and rename: that is the seal",
    )
