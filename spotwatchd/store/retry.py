"""Trying again while the store does not answer, and never past the time given."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from spotwatchd.errors import StoreUnavailable

T = TypeVar("T")

# S3 asks for exponential back-off after 503 SlowDown. The first pause is a few round
# trips; the last is short against the two minutes of a notice.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
# Jitter keeps a fleet that was slowed down together from coming back together.
_JITTER = random.SystemRandom()


@dataclass
class Patience:
    """How long to go on.

    Attributes:
        deadline: time.monotonic() after which nothing is started.
        tries: at most this many requests.
        stop: set when the result is no longer wanted.
    """

    deadline: float
    tries: int = 1_000_000
    stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, seconds: float, tries: int = 1_000_000) -> Patience:
        """Starting now."""
        return cls(time.monotonic() + seconds, tries)

    def is_over(self) -> bool:
        """Whether nothing more should be started."""
        return self.stop.is_set() or time.monotonic() >= self.deadline

    def call(self, request: Callable[[], T]) -> T:
        """The request's answer. Raises the last StoreUnavailable, and all else at once."""
        pause = FIRST_PAUSE
        for remaining in range(self.tries - 1, -1, -1):
            try:
                return request()
            except StoreUnavailable:
                if not remaining or not self._sleep(pause * _JITTER.uniform(0.5, 1.0)):
                    raise
            pause = min(pause * 2, LONGEST_PAUSE)
        raise AssertionError("tries is at least 1")

    def _sleep(self, seconds: float) -> bool:
        """Whether there is time for another try after the pause."""
        if time.monotonic() + seconds >= self.deadline:
            return False
        return not self.stop.wait(seconds)
