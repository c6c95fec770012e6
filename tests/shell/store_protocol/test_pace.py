"""How fast bytes leave, and how heavy the threads are that move them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from spotwatchd.errors import Damaged
from spotwatchd.store.commands import parse_command
from spotwatchd.store.meter import Meter
from spotwatchd.store.pace import Pace
from spotwatchd.store.patience import Cancelled, Patience
from spotwatchd.store.weight import BACKGROUND_IO, URGENT_IO, Weight, io_priority
from tests.shell.store_protocol.conftest import MakeMachine, Store
from tests.shell.store_protocol.daemon import until
from tests.shell.store_protocol.machine import save, seal_message

MB = 10**6


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def pass_time(clock: Clock, pace: Pace) -> Callable[[], None]:
    """What a waiting sender calls: a hundredth of a second is over."""

    def check() -> None:
        clock.now += 0.01

    pace._wait = lambda: 0.0  # type: ignore[method-assign]
    return check


def seconds_for(pace: Pace, clock: Clock, size: int, chunk: int = MB) -> float:
    """How long ``size`` bytes take."""
    began, check = clock.now, pass_time(clock, pace)
    for _ in range(size // chunk):
        pace.spend(chunk, check)
    return clock.now - began


@pytest.mark.parametrize(
    ("cap", "ordered", "urgent", "rate"),
    [
        (None, None, False, None),
        (50, None, False, 50),
        (50, None, True, None),
        (50, 20, False, 20),
        (50, 70, False, 50),
        (50, 70, True, 70),
        (None, 0, True, 0),
    ],
)
def test_the_lower_limit_holds_and_the_users_in_the_background_only(
    cap: float | None, ordered: float | None, urgent: bool, rate: float | None
) -> None:
    pace = Pace(cap)
    pace.order(ordered)
    pace.set_urgent(urgent=urgent)
    assert pace.rate == rate
    assert pace.stopped == (rate == 0)


@pytest.mark.parametrize("rate", [1 * MB, 50 * MB])
def test_bytes_leave_at_the_rate(rate: int) -> None:
    """Two hundred chunks of 1 MB, at a rate below and above what a chunk is."""
    clock = Clock()
    pace = Pace(rate, clock)
    took = seconds_for(pace, clock, 200 * MB)
    assert 198 * MB / rate <= took <= 202 * MB / rate


def test_a_limit_that_is_lifted_frees_those_who_wait() -> None:
    pace = Pace(1.0)
    pace.spend(MB, lambda: None)
    sender = threading.Thread(target=lambda: pace.spend(MB, lambda: None))
    sender.start()
    pace.order(None)
    pace.set_urgent(urgent=True)
    sender.join(20)
    assert not sender.is_alive()


def test_a_stop_lets_through_what_keeps_a_connection_alive() -> None:
    """One chunk each five seconds."""
    clock = Clock()
    pace = Pace(None, clock)
    pace.order(0)
    assert 14.9 <= seconds_for(pace, clock, 3 * MB) <= 15.1


def test_a_wait_ends_when_it_is_cancelled() -> None:
    pace = Pace(1.0)
    pace.spend(MB, lambda: None)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        Patience(cancelled=cancelled, flow=pace.spend).spend(1)


def test_the_meter_tells_what_is_there() -> None:
    """What was there before the upload counts; what is sent twice never makes it too much."""
    said: list[tuple[int, int]] = []
    meter = Meter(Pace(), lambda sent, size: said.append((sent, size)), every=0)
    meter.begin(40, 100)
    meter.spend(30, lambda: None)
    meter.spend(60, lambda: None)
    assert said == [(70, 100), (100, 100)]
    assert meter.sent == 90


def test_what_waits_in_this_machine_has_not_been_sent() -> None:
    said: list[int] = []
    waiting = [25]
    meter = Meter(Pace(), lambda sent, _: said.append(sent), every=0, waiting=waiting.pop)
    meter.begin(40, 100)
    meter.spend(30, lambda: None)
    waiting.append(90)
    meter.spend(10, lambda: None)
    assert said == [45, 40]


def test_the_first_bytes_of_an_upload_are_not_told_at_once() -> None:
    """They go into buffers, faster than any link."""
    said: list[tuple[int, int]] = []
    meter = Meter(Pace(), lambda sent, size: said.append((sent, size)), every=3600)
    meter.begin(0, 100)
    meter.spend(30, lambda: None)
    assert said == []


@pytest.mark.parametrize("rate", [-1, "fast", True, float("inf")])
def test_a_pace_that_makes_no_sense_is_refused(rate: object) -> None:
    with pytest.raises(Damaged, match="bytes_per_second"):
        parse_command({"do": "pace", "bytes_per_second": rate})


def test_threads_get_heavier_and_lighter_again_without_any_privilege() -> None:
    """Only those that entered, and those that ship; a thread that leaves is normal again."""
    weight, ready, over = Weight(), threading.Event(), threading.Event()
    ids: list[int] = []

    def body() -> None:
        weight.enter()
        ids.append(threading.get_native_id())
        ready.set()
        over.wait(20)

    thread = threading.Thread(target=body)
    thread.start()
    assert ready.wait(20)
    try:
        found = [(os.sched_getscheduler(ids[0]), io_priority(ids[0]))]
        for urgent in (True, False):
            weight.set(urgent=urgent)
            found.append((os.sched_getscheduler(ids[0]), io_priority(ids[0])))
    finally:
        over.set()
        thread.join()
    light = (os.SCHED_BATCH, BACKGROUND_IO)
    assert found == [light, (os.SCHED_OTHER, URGENT_IO), light]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_an_upload_tells_how_far_it_is_and_is_cancelled_in_the_middle_of_a_file(
    directory: Store, machines: MakeMachine
) -> None:
    """At a crawl by the user's cap; the next one is urgent and no cap holds it."""
    machine = machines(directory, upload_limit=2 * MB)
    machine.start()
    machine.take()
    body = {"model.pt": bytes(range(256)) * 400_000}
    slow = seal_message(save(machine.checkpoints, 10, body))
    no = machine.daemon.tell("upload", seal=slow, cause="periodic", deadline=None)
    progress = machine.daemon.wait("progress", no=no)
    assert 0 < progress["sent"] < progress["size"] == len(body["model.pt"])
    machine.daemon.tell("cancel", no=no)
    assert machine.commit(20)["seal"]["step"] == 20
    assert not [e for e in machine.daemon.said("uploaded") if e["no"] == no]
    machine.daemon.tell("weight", level="urgent")
    uploaded = machine.daemon.ask("upload", "uploaded", seal=slow, cause="notice", deadline=None)
    assert uploaded["size"] == len(body["model.pt"])
    prefix = "digits/checkpoints"
    until(lambda: not list(directory.backend.open_uploads(prefix)), what="nothing is half done")
