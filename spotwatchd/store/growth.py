"""As many workers as help: more where the store is the limit, not this process.

S3 carries 85-90 MB/s a request (its performance guidelines) and lets each wait for tens of
milliseconds, so a fast link wants many at once. Where the workers compute more than they wait,
more of them only get into each other's way. So there are few to begin with, and twice as many
for as long as they wait and the last ones have helped; those that have not go again. What else
keeps the cores busy says nothing: beside a training they always are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# 1.4 GB/s at 85-90 MB/s a request; with buffers of 1 MiB and small files of up to 8 MiB in
# memory at once they stay below the replicator's 200 MiB.
MOST = 16
# Seconds of one look: a few small files or a good part of a large one, whatever the store.
WINDOW = 0.15
# Cores. Python's lock lets one thread of it run: half of that is the room for twice as many.
_BUSY = 0.5
_GAIN = 1.15

Stay = Callable[[], bool]


class CoresBusy:
    """How many cores this process kept busy since the last call."""

    def __init__(self) -> None:
        self._used, self._at = time.process_time(), time.monotonic()

    def __call__(self) -> float:
        used, now = time.process_time(), time.monotonic()
        busy = (used - self._used) / max(now - self._at, 1e-9)
        self._used, self._at = used, now
        return busy


class Growth:
    """How many workers there should be.

    Args:
        count: there are now.
        most: there may be.
        busy: how many cores were kept busy since it was last asked.
    """

    def __init__(self, count: int, most: int, busy: Callable[[], float]) -> None:
        self.count = self._count_before = count
        self._most = most
        self._busy = busy
        self._rate_before = 0.0
        self._settled = count >= most
        self._moved = 0
        self._at: float | None = None

    def look(self, moved: int, now: float) -> int:
        """The number from now on, by the bytes moved so far. ``now``: any clock, seconds."""
        busy = self._busy()
        if self._at is not None and not self._settled:
            self._judge((moved - self._moved) / max(now - self._at, 1e-9), busy)
        self._moved, self._at = moved, now
        return self.count

    def _judge(self, rate: float, busy: float) -> None:
        if rate < _GAIN * self._rate_before:
            self.count, self._settled = self._count_before, True
        elif self.count >= self._most:
            self._settled = True
        elif rate and busy <= _BUSY:
            self._count_before, self._rate_before = self.count, rate
            self.count = min(self._most, 2 * self.count)


class Workers:
    """Threads that do ``work`` until it returns, more of them while that helps.

    Args:
        work: run by each; asks what it is given whether to go on; never raises.
        start, most: how many at first, and at most.
        moved: bytes so far, any thread.
    """

    def __init__(
        self, work: Callable[[Stay], None], start: int, most: int, moved: Callable[[], int]
    ) -> None:
        self._work = work
        self._growth = Growth(start, most, CoresBusy())
        self._moved = moved
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Returns when all have ended."""
        self._look()
        while any(thread.is_alive() for thread in self._threads):
            self._await(WINDOW)
            self._look()

    def join(self) -> None:
        """Wait for those that are left."""
        for thread in self._threads:
            thread.join()

    def _await(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _look(self) -> None:
        wanted = self._growth.look(self._moved(), time.monotonic())
        while len(self._threads) < wanted:
            thread = self._made(len(self._threads))
            self._threads.append(thread)
            thread.start()

    def _made(self, number: int) -> threading.Thread:
        stay = (lambda: number < self._growth.count,)
        return threading.Thread(target=self._work, args=stay, name=f"worker-{number}", daemon=True)
