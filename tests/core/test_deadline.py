"""Notice arithmetic: exact numbers, no clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.core.deadline import (
    FARTHEST_SECONDS,
    NOTICE_SECONDS,
    Stamp,
    deadline,
    lateness,
    seconds_until,
)

NOON = 1_795_262_400.0  # 2026-11-21 12:00:00 UTC
BOOT = 5_000.0


def test_a_two_minute_notice_ends_within_a_second_before_two_minutes() -> None:
    """The whole-second Date costs one second of the window, never more."""
    assert deadline(NOON + 120, Stamp(BOOT, NOON, date=NOON)) == BOOT + 119


@pytest.mark.parametrize("skew", [-3600.0, -1.0, 0.0, 1.0, 3600.0])
def test_a_wrong_local_clock_changes_nothing(skew: float) -> None:
    """Only the service's own clock counts when it sends a Date."""
    stamp = Stamp(BOOT, NOON + skew, date=NOON)
    assert deadline(NOON + 120, stamp) == BOOT + 119


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_service_with_a_wrong_clock_changes_nothing(skew: float) -> None:
    """Notice time and Date are wrong by the same amount, which cancels."""
    stamp = Stamp(BOOT, NOON, date=NOON + skew)
    assert deadline(NOON + skew + 120, stamp) == BOOT + 119


def test_without_a_date_the_local_clock_is_all_there_is() -> None:
    """The fallback uses the wall clock at the moment of the request, unrounded."""
    assert deadline(NOON + 120, Stamp(BOOT, NOON + 0.25, date=None)) == BOOT + 119.75


@pytest.mark.parametrize("left", [108.0, 5.0, 0.0, -7200.0])
def test_late_and_past_notices_keep_their_own_time(left: float) -> None:
    """Never "now + 120 s": the time in the notice decides, in the past too."""
    assert deadline(NOON + left, Stamp(BOOT, NOON, date=NOON)) == BOOT + left - 1


def test_a_time_beyond_all_sense_is_cut() -> None:
    """A notice for next year opens a drain of fifteen minutes, not of a year."""
    assert deadline(NOON + 3e7, Stamp(BOOT, NOON, date=NOON)) == BOOT + FARTHEST_SECONDS


def test_lateness_is_what_is_missing_of_two_minutes() -> None:
    """108 s left means 12 s late; more than two minutes is not late."""
    assert lateness(BOOT + 108, BOOT) == 12
    assert lateness(BOOT + 130, BOOT) == 0
    assert lateness(BOOT - 60, BOOT) == NOTICE_SECONDS + 60


@given(
    true_left=st.integers(-7200, 800),
    fraction=st.floats(0, 0.999),
    up=st.floats(0, 1.0),
    skew=st.integers(-100_000, 100_000),
)
def test_the_deadline_is_cautious_and_close(
    true_left: int, fraction: float, up: float, skew: int
) -> None:
    """For any phase, latency and skew: never later than true, at most 1 s + trip early."""
    clock_at_sent = NOON + fraction
    date = float(int(clock_at_sent + up))
    told = NOON + true_left
    true_deadline = BOOT + told - clock_at_sent
    got = deadline(told + skew, Stamp(BOOT, wall=0.0, date=date + skew))
    assert true_deadline - 1 - up - 1e-6 <= got <= true_deadline + 1e-6


def test_seconds_until_is_not_cut() -> None:
    """Scheduled events lie days ahead, and their distance is shown as it is."""
    assert seconds_until(NOON + 86_400, Stamp(BOOT, NOON, date=NOON)) == 86_399
