"""What the end of an attempt means, and how long to wait before the next."""

from __future__ import annotations

from spotwatchd.core.words import Outcome

PREEMPTED_STATUS = 75  # EX_TEMPFAIL of sysexits.h, as the client exits


def outcome(status: int | None, *, finished: bool, told: bool, stopped: bool) -> Outcome:
    """How an attempt ended.

    Args:
        status: exit status, negative for a signal, None when nobody recorded it.
        finished: the job said ``finish()``.
        told: it was asked to leave (a notice or a stop), so leaving is no news.
        stopped: a person wanted it to end.
    """
    if finished and status in (0, None):
        return Outcome.FINISHED
    if stopped:
        return Outcome.STOPPED
    if told or status == PREEMPTED_STATUS:
        return Outcome.PREEMPTED
    return Outcome.FINISHED if status == 0 else Outcome.CRASHED


def backoff(tries: int, limits: tuple[float, float]) -> float:
    """Seconds before the next try after ``tries`` >= 1 that failed: doubling, bounded."""
    shortest, longest = limits
    # The exponent is bounded too: a float overflows after a thousand failures.
    return min(shortest * 2.0 ** min(max(tries, 1) - 1, 40), longest)
