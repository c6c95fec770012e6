"""What answers mean, without a server."""

import pytest

from spotwatchd.core.deadline import Stamp
from spotwatchd.core.events import HintSeen, NoticeGone, NoticeSeen
from spotwatchd.core.words import MachineAction
from spotwatchd.watch import parse
from spotwatchd.watch.fetch import Answer
from spotwatchd.watch.sources import AutoscalingSource, EventsSource, RebalanceSource, SpotSource

NOON = parse.rfc3339("2026-11-21T12:00:00Z")
NOTICE = b'{"action":"terminate","time":"2026-11-21T12:02:00Z"}'
NOTHING = Answer(None, Stamp(sent=7.0, wall=NOON, date=None))


def answer(body: bytes, sent: float = 5.0, date: float = NOON) -> Answer:
    """An answer sent at noon."""
    return Answer(body, Stamp(sent, wall=0.0, date=date))


def spot() -> SpotSource:
    """One that has shown a notice."""
    source = SpotSource(lambda _: None)
    source.read(answer(NOTICE))
    return source


def test_the_deadline_is_fixed_at_first_sight() -> None:
    """Later answers with a jittering Date change nothing."""
    source = SpotSource(lambda _: None)
    first = source.read(answer(NOTICE, sent=5.0))
    later = source.read(answer(NOTICE, sent=7.9, date=NOON + 2))
    assert first == later
    assert isinstance(first[0], NoticeSeen)
    assert first[0].notice.deadline == 5.0 + 119


def test_another_time_is_another_notice() -> None:
    """With its own key and deadline."""
    source = spot()
    (event,) = source.read(answer(NOTICE.replace(b"12:02", b"12:01")))
    assert isinstance(event, NoticeSeen)
    assert event.notice.deadline == 5.0 + 59


def test_one_404_is_not_enough() -> None:
    """A service that just restarted may not have heard yet."""
    source = spot()
    assert source.read(NOTHING) == []
    assert source.read(NOTHING) == [NoticeGone("ec2-spot")]
    assert source.read(NOTHING) == []


def test_an_error_or_the_notice_between_two_404_starts_the_count_anew() -> None:
    """Twice in a row means in a row."""
    source = spot()
    source.read(NOTHING)
    source.shown.unclear()
    assert source.read(NOTHING) == []
    source.read(answer(NOTICE))
    assert source.read(NOTHING) == []
    assert source.read(NOTHING) == [NoticeGone("ec2-spot")]


def test_garbage_changes_no_memory() -> None:
    """It is raised, and the notice stays what it was."""
    source = spot()
    with pytest.raises(parse.Garbage):
        source.read(answer(b"{"))
    (event,) = source.read(answer(NOTICE, sent=30.0))
    assert isinstance(event, NoticeSeen)
    assert event.notice.deadline == 5.0 + 119


def test_each_recommendation_is_one_hint() -> None:
    """The same time is the same hint."""
    source = RebalanceSource()
    body = b'{"noticeTime":"2026-11-21T12:00:00Z"}'
    assert source.read(answer(body)) == [HintSeen("ec2-rebalance:2026-11-21T12:00:00Z")]
    assert source.read(answer(body)) == []
    assert len(source.read(answer(body.replace(b"12:00", b"12:05")))) == 1


REBOOT = (
    b'{"NotBefore":"21 Nov 2026 12:04:00 GMT","Code":"system-reboot",'
    b'"EventId":"instance-event-1","State":"active"}'
)


def test_the_lead_decides_when_an_event_becomes_a_notice() -> None:
    """At 239 s left: upcoming for a lead of 238 s, a notice for one of 239 s."""
    far, near = EventsSource(238.0), EventsSource(239.0)
    assert far.read(answer(b"[" + REBOOT + b"]")) == []
    assert [event.seconds_left for event in far.upcoming] == [239.0]
    (event,) = near.read(answer(b"[" + REBOOT + b"]"))
    assert isinstance(event, NoticeSeen)
    assert (event.notice.action, event.notice.deadline) == (MachineAction.REBOOT, 5.0 + 239)
    assert near.upcoming == ()


def test_the_earliest_of_several_events_is_the_notice() -> None:
    """The others change nothing: the machine is gone or back by then."""
    sooner = REBOOT.replace(b"12:04", b"12:03").replace(b"event-1", b"event-2")
    (event,) = EventsSource(300.0).read(answer(b"[" + REBOOT + b"," + sooner + b"]"))
    assert isinstance(event, NoticeSeen)
    assert "instance-event-2" in event.notice.key


def test_a_damaged_list_takes_no_notice_back() -> None:
    """The damaged entry may be the one that was shown."""
    source = EventsSource(300.0)
    source.read(answer(b"[" + REBOOT + b"]"))
    for _ in range(3):
        assert source.read(answer(b"[" + REBOOT.replace(b"Nov", b"Nev") + b"]")) == []
        assert "is not a time" in source.wrong
    assert source.read(answer(b"[]")) == []
    assert source.read(answer(b"[]")) == [NoticeGone("ec2-event")]


def test_an_empty_answer_is_not_an_empty_list() -> None:
    """Garbage, like for every other path."""
    with pytest.raises(parse.Garbage, match="empty"):
        EventsSource(300.0).read(answer(b""))


def test_outside_of_a_group_the_state_is_asked_for_rarely() -> None:
    """And often again once there is a group."""
    source = AutoscalingSource(120.0)
    often = source.every
    source.read(NOTHING)
    assert source.every > often
    source.read(answer(b"InService"))
    assert source.every == often


@pytest.mark.parametrize("state", [b"Detached", b"Standby", b"Warmed:Stopped", b"InService"])
def test_other_target_states_are_no_notice(state: bytes) -> None:
    """Only Terminated ends the machine."""
    assert AutoscalingSource(120.0).read(answer(state)) == []
