"""As many workers as help: more where the store is the limit, not this machine.

S3 carries 85-90 MB/s a request (its performance guidelines) and lets each wait for tens of
milliseconds, so a fast link wants many at once. Where the cores are busy, more threads only
get into each other's way. So there are few to begin with, and twice as many for as long as
cores are idle and the last ones have helped; those that have not go again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

# 1.4 GB/s at 85-90 MB/s a request; with buffers of 1 MiB and small files of up to 8 MiB in
# memory at once they stay below the replicator's 200 MiB.
MOST = 16
# Seconds of one look: several parts, or dozens of small files, whatever the store.
WINDOW = 0.4
_IDLE = 0.25
_GAIN = 1.15
_STAT = Path("/proc/stat")

Stay = Callable[[], bool]


class IdleShare:
    """The share of all cores' time that was idle since the last call. 0 where nobody can tell."""

    def __init__(self) -> None:
        self._idle, self._total = _cpu_times()

    def __call__(self) -> float:
        idle, total = _cpu_times()
        passed = total - self._total
        share = (idle - self._idle) / passed if passed > 0 else 0.0
        self._idle, self._total = idle, total
        return share


def _cpu_times() -> tuple[int, int]:
    """Ticks: idle or waiting for a disk, and all. See proc(5)."""
    try:
        fields = [int(word) for word in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return sum(fields[3:5]), sum(fields)


class Growth:
    """How many workers there should be.

    Args:
        count: there are now.
        most: there may be.
        idle: the share of the cores' time that was idle since it was last asked.
    """

    def __init__(self, count: int, most: int, idle: Callable[[], float]) -> None:
        self.count = self._count_before = count
        self._most = most
        self._idle = idle
        self._rate_before = 0.0
        self._settled = count >= most
        self._moved = 0
        self._at: float | None = None

    def look(self, moved: int, now: float) -> int:
        """The number from now on, by the bytes moved so far. ``now``: any clock, seconds."""
        idle = self._idle()
        if self._at is not None and not self._settled:
            self._judge((moved - self._moved) / max(now - self._at, 1e-9), idle)
        self._moved, self._at = moved, now
        return self.count

    def _judge(self, rate: float, idle: float) -> None:
        if rate < _GAIN * self._rate_before:
            self.count, self._settled = self._count_before, True
        elif self.count >= self._most:
            self._settled = True
        elif rate and idle >= _IDLE:
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
        self._growth = Growth(start, most, IdleShare())
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
