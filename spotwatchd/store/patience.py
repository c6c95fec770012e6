"""How long an operation may go on, and how it tries again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from spotwatchd.errors import SpotwatchError, StoreUnavailable
from spotwatchd.store.base import Limits
from spotwatchd.store.swap import boottime
from spotwatchd.store.underway import within

T = TypeVar("T")
Flow = Callable[[int, Callable[[], None]], None]

# The first retry is quick because most failures are single ones; the longest pause bounds
# how late a store that is back gets noticed.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 3.0
# No pause takes more than this part of what is left until the deadline, or the last one would
# take all of it. Never so short that the store is asked without pause.
SHARE = 16
SHORTEST_PAUSE = 0.05


def cut(seconds: float, limits: Limits) -> float:
    """A pause, made shorter as the deadline comes nearer."""
    return max(min(seconds, SHORTEST_PAUSE), limits.left(seconds * SHARE) / SHARE)


class Cancelled(SpotwatchError):
    """The daemon said stop; nobody waits for the answer."""


class OutOfTime(SpotwatchError):
    """The deadline passed before the store answered."""


class Patience:
    """The limits of one operation: a deadline (or none) and a cancel flag.

    Attributes:
        deadline: CLOCK_BOOTTIME seconds, or None.
        cancelled: set by another thread.
        trouble: told of each failure that is tried again.
        still: asked at each check; raises when there is no point in going on.
        flow: told of bytes before they leave, and of ``check``: it may wait, and count. What
            is sent again counts again.
    """

    def __init__(
        self,
        deadline: float | None = None,
        cancelled: threading.Event | None = None,
        trouble: Callable[[StoreUnavailable], None] = lambda _: None,
        still: Callable[[], object] = lambda: None,
        flow: Flow | None = None,
    ) -> None:
        self.deadline = deadline
        self.cancelled = cancelled or threading.Event()
        self.trouble = trouble
        self.still = still
        self.flow = flow

    def check(self) -> None:
        """Raise Cancelled, OutOfTime, or what ``still`` raises, when it is time to stop."""
        if self.cancelled.is_set():
            raise Cancelled("cancelled")
        if self.deadline is not None and boottime() >= self.deadline:
            raise OutOfTime("the deadline passed before the store had it all")
        self.still()

    def left(self, most: float) -> float:
        """Seconds that one call may take."""
        if self.deadline is None:
            return most
        return max(0.1, min(most, self.deadline - boottime()))

    def spend(self, size: int) -> None:
        """Wait until ``size`` more bytes may be sent, then check."""
        if self.flow is not None:
            self.flow(size, self.check)
        self.check()

    def pause(self, seconds: float) -> None:
        """Wait, then check."""
        self.cancelled.wait(self.left(seconds))
        self.check()

    def retry(self, action: Callable[[], T]) -> T:
        """Do ``action`` until it no longer raises StoreUnavailable.

        Its requests for documents end with the deadline, too.
        """
        wait = FIRST_PAUSE
        while True:
            self.check()
            try:
                with within(self):
                    return action()
            except StoreUnavailable as error:
                self.trouble(error)
            self.pause(cut(wait, self))
            wait = min(LONGEST_PAUSE, wait * 2)
