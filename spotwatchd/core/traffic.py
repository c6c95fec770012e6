"""What is measured of the uploads: bytes so far per job, and what the link carries.

Progress comes at most twice a second and in lumps (a part is acknowledged as a whole), so
a rate is taken over the last few reports, and only since the caps were last changed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from spotwatchd.core.estimate import Estimate, robust

_POINTS = 5  # reports that a rate is taken over
_SPAN = 0.4  # seconds that they must cover
_SILENCE = 3.0  # seconds without a byte: an upload that stalls
SLOWER = 0.6  # a job that alone carries less than this share of the link has a limit of its own
_BELIEVED = 2.0  # seconds for which bytes are taken for sent that nobody reported yet
_BETWEEN = 0.5  # seconds between two looks at the link
_FACTORS = (0.02, 50.0)  # today's link against that of the past
_FLOOR = 0.03  # relative: a link that was noisy is never known better than this


@dataclass
class Meter:
    """One job's bytes.

    Attributes:
        carried: bytes acknowledged, of all its checkpoints.
        points: (time, carried) of the last reports since the caps changed.
        speaks: its replicator reports progress, so it also knows caps.
        streams: it sends files while they grow.
        early, written: of the checkpoint that is being written: bytes in the store, and so far.
        grown: when that was told.
        heard, moved, gap: when it reported, when bytes went, and seconds between reports.
        limit: the fastest that it could send when nothing else held it back, in this drain.
        hoped, expects, since: bytes that it must have sent since it reported: so many up to
            ``since``, and from there on ``expects`` per second.
    """

    carried: float = 0.0
    points: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_POINTS))
    speaks: bool = False
    streams: bool = False
    early: int = 0
    written: int = 0
    grown: float = 0.0
    heard: float = -math.inf
    moved: float = -math.inf
    gap: float = 0.0
    limit: float | None = None
    hoped: float = 0.0
    expects: float = 0.0
    since: float = 0.0

    def expect(self, now: float, rate: float) -> None:
        """From now on it should send at this rate."""
        self.hoped, self.expects, self.since = self.unreported(now), rate, now

    def unreported(self, now: float) -> float:
        """Bytes that it should have sent since its last report."""
        return self.hoped + self.expects * min(max(0.0, now - self.since), _BELIEVED)

    def note(self, now: float, more: float, *, whole: bool = True) -> None:
        """``more`` bytes were acknowledged since the last report.

        ``whole``: with this all that it sends is counted, so a rate may be taken of it.
        """
        self.speaks = True
        self.carried += max(0.0, more)
        if more > 0 or not self.points:
            self.moved = now
        if not whole:
            return
        self.hoped, self.since = 0.0, now
        if math.isfinite(self.heard):
            self.gap = min(now - self.heard, 10.0)
        self.heard = now
        self.points.append((now, self.carried))

    def restart(self) -> None:
        """Something changed that older reports know nothing of."""
        self.points.clear()

    def begin(self, now: float) -> None:
        """Another upload begins."""
        self.points.clear()
        self.hoped, self.since = 0.0, now

    def rate(self) -> float | None:
        """Bytes per second of late, or None when there are too few reports."""
        if len(self.points) < 2:
            return None
        (begun, first), (ended, last) = self.points[0], self.points[-1]
        return (last - first) / (ended - begun) if ended - begun >= _SPAN else None

    def stalled(self, now: float) -> bool:
        """It had something to send and sent nothing for a while."""
        return bool(self.points) and now - self.moved > max(_SILENCE, 3 * self.gap)

    def sealed(self) -> int:
        """The checkpoint that was being written is complete. Bytes of it in the store."""
        early, self.early, self.written = self.early, 0, 0
        return early


@dataclass
class Link:
    """What all uploads of the machine share.

    Attributes:
        totals: bytes per second when two or more uploads were under way.
        factor: today's link against that of the past, as this drain shows it.
        looks: how often it was looked at in this drain.
        looked: when last.
        probe_until: until then all uploads run free, to see what the link carries.
        probed: when that was last begun.
    """

    totals: deque[float] = field(default_factory=lambda: deque(maxlen=9))
    factor: float = 1.0
    looks: int = 0
    looked: float = -math.inf
    probe_until: float = -math.inf
    probed: float = -math.inf

    def begin(self) -> None:
        """A drain begins: what today is like is not known yet."""
        self.factor, self.looks, self.looked = 1.0, 0, -math.inf
        self.probe_until = self.probed = -math.inf

    def due(self, now: float) -> bool:
        """Time for another look."""
        return now - self.looked >= _BETWEEN

    def note_total(self, now: float, total: float) -> None:
        """Several uploads together carried this much."""
        self.looked = now
        if total > 0:
            self.totals.append(total)

    def note_factor(self, now: float, factor: float) -> None:
        """A look at today's link; the first counts for more than the past."""
        self.looked = now
        self.looks += 1
        gain = max(0.3, 1 / (self.looks + 0.5))
        least, most = _FACTORS
        seen = min(max(factor, least), most)
        self.factor = self.factor ** (1 - gain) * seen**gain

    def estimate(self, alone: list[float]) -> Estimate | None:
        """The link, bytes per second, from the totals and from uploads that were alone."""
        reference = robust(self.totals)
        most = reference.middle if reference else max(alone, default=0.0)
        pool = [*self.totals, *(each for each in alone if each >= SLOWER * most)]
        known = robust(pool)
        if known is None or known.middle <= 0:
            return None
        relative = known.relative / (1 + self.looks)
        if relative > 0:
            relative = max(relative, min(_FLOOR, known.relative))
        middle = known.middle * self.factor
        return Estimate(middle, middle * relative)
