"""What to do with the link when there is not time for everything."""

from __future__ import annotations

NEARLY_DONE = 0.2  # of a typical upload left: a bird in the hand


def keep_older(elapsed: float, typical: float | None, left: float | None) -> bool:
    """True when the upload in flight goes on although a newer checkpoint is sealed.

    Args:
        elapsed: seconds since the upload in flight began.
        typical: seconds that this job's uploads take, or None when none was measured.
        left: seconds to the deadline, or None when there is none.
    """
    if typical is None or left is None:
        return True
    remaining = max(0.0, typical - elapsed)
    if remaining + typical <= left or remaining <= NEARLY_DONE * typical:
        return True
    newer_fits = typical <= left
    older_fits = remaining <= left
    return older_fits and not newer_fits


def retry_delay(wanted: float, shortest: float, left: float | None) -> float:
    """The pause before another try, cut so that a try is left before the deadline."""
    if left is None or left <= shortest:
        return wanted
    return min(wanted, max(shortest, left / 2))
