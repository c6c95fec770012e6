"""Uploads as fluids in one pipe: what is in the store at the end if this order is kept.

The same rules as in life: a job has one upload at a time, a newer checkpoint supersedes an
older one of the same job, a file that is being written can leave as fast as it grows, and a
commit takes a moment in which the job's next upload waits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_NOTHING = 1e-9  # seconds or bytes that are rounding


@dataclass(frozen=True)
class Item:
    """One checkpoint that may be brought to the store. Times are seconds from now.

    Attributes:
        job: whose.
        order: its place among the job's seals; a higher one supersedes.
        size: bytes still to be sent.
        unwritten: of these, what the training has yet to write (all, when it is sent only
            after the seal).
        ready: when it is sealed, 0 when it is.
        streams: its bytes can leave while it is written.
        value: seconds of work that are safe once it is committed.
        limit: the fastest the job's replicator can send, bytes per second.
        size_doubt, ready_doubt: standard deviations of ``size`` and ``ready``.
        step: the training step, None while it is not sealed.
    """

    job: str
    order: int
    size: float
    unwritten: float
    ready: float
    streams: bool
    value: float
    limit: float = math.inf
    size_doubt: float = 0.0
    ready_doubt: float = 0.0
    step: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Its identity, the same before and after the seal."""
        return self.job, self.order

    @property
    def density(self) -> float:
        """Work saved per byte sent."""
        return self.value / max(self.size, 1.0)


def shares(wishes: Sequence[float], rate: float, *, fair: bool) -> list[float]:
    """What each gets of ``rate`` when it can use ``wishes[i]``: in order, or all alike."""
    if not fair:
        given = []
        for wish in wishes:
            given.append(min(wish, rate))
            rate -= given[-1]
        return given
    given = [0.0] * len(wishes)
    todo = len(wishes)
    for wish, place in sorted((wish, place) for place, wish in enumerate(wishes)):
        given[place] = min(wish, rate / todo)
        rate -= given[place]
        todo -= 1
    return given


class Pipe:
    """One run of the model over items in an order of preference.

    Attributes:
        done: keys of the items that got through so far.
    """

    def __init__(self, items: Sequence[Item], *, commit: float) -> None:
        self._items = items
        self._commit = commit
        self._left = [item.size for item in items]
        self._ready = [item.ready for item in items]
        self._gone = [False] * len(items)
        self._saved: dict[str, float] = {}
        self._now = 0.0
        self.done: list[tuple[str, int]] = []

    def active(self) -> list[tuple[int, float]]:
        """Places of the items that can use the link now, and how much of it."""
        found, busy = [], set()
        for place, item in enumerate(self._items):
            if self._gone[place]:
                continue
            wait = self._ready[place] - self._now
            if wait <= _NOTHING:
                if item.job not in busy:
                    busy.add(item.job)
                    found.append((place, item.limit))
            elif item.streams and item.ready > self._now + _NOTHING:
                found.append((place, min(item.limit, self._left[place] / wait)))
        return found

    def run(self, rate: float, horizon: float, *, fair: bool = False) -> float:
        """Seconds of work that are safe after ``horizon`` seconds at ``rate``."""
        while self._now < horizon - _NOTHING:
            active = self.active()
            given = shares([wish for _, wish in active], rate, fair=fair)
            pause = self._until_change(active, given, horizon)
            self._now += pause
            for (place, _), speed in zip(active, given, strict=True):
                self._left[place] -= speed * pause
                if self._left[place] <= 1e-6 and self._ready[place] <= self._now + _NOTHING:
                    self._done(place)
        return sum(self._saved.values())

    def _until_change(
        self, active: list[tuple[int, float]], given: list[float], horizon: float
    ) -> float:
        pause = horizon - self._now
        for place, at in enumerate(self._ready):
            if not self._gone[place] and _NOTHING < at - self._now < pause:
                pause = at - self._now
        for (place, _), speed in zip(active, given, strict=True):
            if speed > 0 and self._left[place] < speed * pause:
                pause = max(self._left[place] / speed, _NOTHING)
        return pause

    def _done(self, place: int) -> None:
        done = self._items[place]
        self.done.append(done.key)
        self._saved[done.job] = max(done.value, self._saved.get(done.job, 0.0))
        for other, item in enumerate(self._items):
            if item.job != done.job:
                continue
            if item.order <= done.order:
                self._gone[other] = True
            elif self._ready[other] < self._now + self._commit:
                self._ready[other] = self._now + self._commit


def saved(
    items: Sequence[Item], rate: float, horizon: float, *, commit: float = 0.0, fair: bool = False
) -> float:
    """Seconds of work in the store after ``horizon`` seconds, items in order of preference.

    Args:
        items: the first of them that can use the link gets what it can use, and so on.
        rate: of the link, bytes per second.
        horizon: seconds.
        commit: seconds that a commit takes after the last byte.
        fair: nobody is preferred, as uploads without caps share a link.
    """
    return Pipe(items, commit=commit).run(rate, horizon, fair=fair)
