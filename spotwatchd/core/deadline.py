"""From the wall-clock time in a notice to a deadline on CLOCK_BOOTTIME.

This is the only place where the two clocks meet, and each notice passes through it once:
whoever sees a notice keeps the deadline that came out at first sight.

The local wall clock takes no part as long as the answer carries a Date header. Notice time and
Date come from the same clock, the metadata service's, so their difference is a duration, and
a duration can be added to CLOCK_BOOTTIME whatever the local clock says.

Date counts whole seconds and is stamped somewhere between the request and the answer. The
deadline takes both in the cautious direction: it is never later than the true one, and earlier
by at most one second and one round trip.
"""

from __future__ import annotations

from dataclasses import dataclass

# What EC2 announces for terminate and stop: "two minutes before". Best effort, so only
# good for telling how late a notice was.
NOTICE_SECONDS = 120.0

# A spot notice is two minutes, and EC2's fault injection service goes up to fifteen. A time
# farther away is nonsense, and a drain that waits for it would hold the jobs asked for hours.
FARTHEST_SECONDS = 900.0

_DATE_RESOLUTION = 1.0


@dataclass(frozen=True)
class Stamp:
    """The clocks around one answer of the metadata service.

    Attributes:
        sent: CLOCK_BOOTTIME just before the request left, in seconds.
        wall: the local wall clock at the same moment, Unix seconds.
        date: the answer's Date header, Unix seconds, or None when it had no usable one.
    """

    sent: float
    wall: float
    date: float | None


def service_time(stamp: Stamp) -> float:
    """The service's wall clock at ``stamp.sent``, at the latest it can have been (Unix seconds)."""
    if stamp.date is None:
        return stamp.wall
    return stamp.date + _DATE_RESOLUTION


def seconds_until(told: float, stamp: Stamp) -> float:
    """Seconds from ``stamp.sent`` to the wall-clock time ``told`` (Unix seconds), past negative."""
    return told - service_time(stamp)


def deadline(told: float, stamp: Stamp) -> float:
    """The deadline on CLOCK_BOOTTIME of a notice that tells the time ``told`` (Unix seconds).

    A past time gives a past deadline: the core decides what that means. A time farther away
    than FARTHEST_SECONDS counts as FARTHEST_SECONDS.
    """
    return stamp.sent + min(seconds_until(told, stamp), FARTHEST_SECONDS)


def lateness(deadline: float, seen: float) -> float:
    """Seconds of the promised two minutes that were gone when the notice was seen (>= 0)."""
    return max(0.0, NOTICE_SECONDS - (deadline - seen))
