"""Counting and staleness in virtual time."""

import json

from spotwatchd.watch.health import (
    Failure,
    InstanceFacts,
    Record,
    Upcoming,
    WatchHealth,
    WatchState,
)


def test_the_alarm_comes_at_the_limit_once_and_again_after_a_recovery() -> None:
    """Exactly at 30 s; one line per episode; the counter of seconds starts at the last success."""
    record = Record(begun=100.0, stale_seconds=30.0)
    assert record.poll_succeeded(100.0) == ""
    assert record.poll_failed(Failure.TIMEOUT, 129.0) == ""
    assert "for 30 s" in record.poll_failed(Failure.TIMEOUT, 130.0)
    assert record.poll_failed(Failure.TIMEOUT, 160.0) == ""
    assert record.poll_succeeded(170.0) == "metadata service answers again after 70 s"
    assert record.poll_failed(Failure.TIMEOUT, 199.0) == ""
    assert "for 30 s" in record.poll_failed(Failure.TIMEOUT, 200.0)


def test_failures_with_successes_between_never_add_up_to_an_alarm() -> None:
    """Four rare hiccups over weeks are four counts and nothing else."""
    record = Record(begun=0.0, stale_seconds=30.0)
    for week in range(4):
        now = week * 604_800.0
        record.poll_succeeded(now)
        record.failed(Failure.SERVER_ERROR, "503", now + 2)
        assert record.poll_failed(Failure.SERVER_ERROR, now + 2) == ""
        assert record.poll_succeeded(now + 4) == ""
    assert record.failures == {Failure.SERVER_ERROR: 4}


def test_never_reached_is_absent_and_a_silent_service_is_not() -> None:
    """Connected and then silent from the start is an alarm: the hop limit looks like this."""
    absent = Record(begun=0.0, stale_seconds=30.0)
    silent = Record(begun=0.0, stale_seconds=30.0)
    absent.failed(Failure.UNREACHABLE, "refused", 31.0)
    silent.failed(Failure.TIMEOUT, "token: timeout", 31.0)
    assert absent.poll_failed(Failure.UNREACHABLE, 31.0) == ""
    assert "token: timeout" in silent.poll_failed(Failure.TIMEOUT, 31.0)
    assert (absent.state(31.0), silent.state(31.0)) == (WatchState.ABSENT, WatchState.STALE)


def test_before_the_first_poll_nothing_is_wrong() -> None:
    """Starting, and stale only when a first poll never ends."""
    record = Record(begun=0.0, stale_seconds=30.0)
    assert record.state(1.0) is WatchState.STARTING
    assert not record.stale(29.0)
    assert record.stale(30.0)


def test_the_document_is_json() -> None:
    """The status prints it."""
    health = WatchHealth(
        source="ec2",
        endpoint="http://169.254.169.254",
        state=WatchState.WATCHING,
        stale=False,
        last_success_age=1.5,
        polls=3,
        failures={"timeout": 1},
        last_error="",
        last_error_age=None,
        imds_v1=False,
        instance=InstanceFacts("i-0abc"),
        upcoming=(Upcoming("e", "system-reboot", "21 Nov 2026 12:00:00 GMT", 86_400.0),),
    )
    document = json.loads(json.dumps(health.document()))
    assert document["state"] == "watching"
    assert document["instance"]["instance_id"] == "i-0abc"
    assert document["upcoming"][0]["seconds_left"] == 86_400.0
