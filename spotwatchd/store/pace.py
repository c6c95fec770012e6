"""How fast bytes may leave: the user's cap, and the daemon's word during an interruption.

One bucket per replicator, shared by all of its threads. The user's cap protects training
and so holds in the background only; what the daemon says holds always.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# What may go at once after a pause: short enough that a cap of a slow link is felt by nobody.
_BURST_SECONDS = 0.1
# A wait looks this often whether it is still wanted.
_LOOK_EVERY = 0.2
# At rate 0 a thread that is in the middle of a part sends a chunk now and then: S3 and proxies
# close a connection that is silent for 20 s, and then the whole part would go again.
_TRICKLE_SECONDS = 5.0


class Pace:
    """A token bucket. Any thread.

    Args:
        cap: bytes a second in the background; None: no cap.
        clock: seconds that only grow; tests bring their own.
    """

    def __init__(
        self, cap: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cap = cap
        self._ordered: float | None = None
        self._urgent = False
        self._clock = clock
        self._changed = threading.Condition()
        self._tokens = 0.0
        self._filled_at = clock()

    def order(self, bytes_per_second: float | None) -> None:
        """What the daemon says: None no limit, 0 nothing new for now."""
        with self._changed:
            self._fill()
            self._ordered = bytes_per_second
            self._changed.notify_all()

    def set_urgent(self, *, urgent: bool) -> None:
        """Whether the user's cap is suspended."""
        with self._changed:
            self._fill()
            self._urgent = urgent
            self._changed.notify_all()

    @property
    def rate(self) -> float | None:
        """Bytes a second now; None: no limit."""
        limits = [self._ordered, None if self._urgent else self._cap]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def stopped(self) -> bool:
        """Nothing new is to be begun for now."""
        return self.rate == 0

    def spend(self, size: int, check: Callable[[], None]) -> None:
        """Wait until ``size`` bytes may go. ``check`` is called while waiting; it may raise."""
        if self.rate is None or size == 0:
            return
        began = self._clock()
        with self._changed:
            while not self._take(size) and not self._may_trickle(began):
                self._changed.wait(self._wait())
                check()

    def _take(self, size: int) -> bool:
        """Take the tokens when the bucket is not in debt: the debt is waited for by the next."""
        self._fill()
        if self.rate is not None:
            if self.rate == 0 or self._tokens < 0:
                return False
            self._tokens -= size
        return True

    def _may_trickle(self, began: float) -> bool:
        return self.rate == 0 and self._clock() - began >= _TRICKLE_SECONDS

    def _fill(self) -> None:
        now, rate = self._clock(), self.rate
        if rate is None:
            self._tokens = 0.0
        else:
            grown = self._tokens + (now - self._filled_at) * rate
            self._tokens = min(grown, rate * _BURST_SECONDS)
        self._filled_at = now

    def _wait(self) -> float:
        rate = self.rate
        if not rate:
            return _LOOK_EVERY
        return min(_LOOK_EVERY, max(0.001, -self._tokens / rate))
