"""How far an upload is: counted as bytes leave, said at most twice a second.

Bytes that wait in the kernel have not left: megabytes fit there, and they would look like a
link many times faster than it is whenever an upload begins, or goes on after a pause.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from spotwatchd.store.pace import Pace
from spotwatchd.store.swap import boottime

_EVERY = 0.5

Said = Callable[[int, int], None]


class Meter:
    """Counts the bytes of one upload command. Any thread.

    Args:
        pace: how fast they may leave.
        say: told (bytes that the store has, about; bytes in all).
        every: seconds between two such words, and before the first.
        waiting: bytes of those counted that have not left this machine yet.

    Attributes:
        sent: bytes that left this machine, those that left twice counted twice.
    """

    def __init__(
        self,
        pace: Pace,
        say: Said = lambda _sent, _size: None,
        every: float = _EVERY,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._pace = pace
        self._say = say
        self._every = every
        self._waiting = waiting
        self._lock = threading.Lock()
        self._there = 0
        self._size = 0
        self._said_at = 0.0
        self.sent = 0

    def begin(self, there: int, size: int) -> None:
        """The upload begins: ``there`` of its ``size`` bytes need not be sent."""
        with self._lock:
            self._there, self._size, self.sent = there, size, 0
            # The first bytes only fill buffers: said at once they would look like a link many
            # times faster than it is.
            self._said_at = boottime()

    def spend(self, size: int, check: Callable[[], None]) -> None:
        """See patience.Patience: flow."""
        self._pace.spend(size, check)
        with self._lock:
            self.sent += size
            now = boottime()
            due = self._size > 0 and now - self._said_at >= self._every
            if due:
                self._said_at = now
            left = max(0, self.sent - self._waiting()) if due else 0
            told = min(self._size, self._there + left)
        if due:
            self._say(told, self._size)
