"""How many workers there are: more while they wait and it helps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from spotwatchd.store.growth import CoresBusy, Growth, Stay, Workers

MB = 1e6


def counts(rates: Callable[[int], float], busy: float, most: int = 16) -> list[int]:
    """Look once a second at a store that carries ``rates(count)`` MB/s."""
    growth = Growth(4, most, lambda: busy)
    seen, moved = [], 0.0
    for second in range(12):
        count = growth.look(int(moved), second)
        seen.append(count)
        moved += rates(count) * MB
    return seen


def test_each_request_has_its_own_rate_and_the_link_is_wide() -> None:
    """Twice as many each time, up to the most."""
    assert counts(lambda count: 90.0 * count, busy=0.1)[:4] == [4, 8, 16, 16]


def test_where_the_link_is_full_those_that_did_not_help_go_again() -> None:
    """One trial, and never another one."""
    assert counts(lambda _: 500.0, busy=0.1) == [4, 8, *[4] * 10]


def test_a_limit_between_two_numbers_keeps_the_one_that_helped() -> None:
    assert counts(lambda count: min(90.0 * count, 700.0), busy=0.1) == [4, 8, 16, *[8] * 9]


@pytest.mark.parametrize(("busy", "rate"), [(0.9, 90.0), (0.1, 0.0)])
def test_work_of_their_own_and_a_store_that_is_away_are_no_reason(busy: float, rate: float) -> None:
    assert set(counts(lambda count: rate * count, busy)) == {4}


def test_never_more_than_were_allowed() -> None:
    """Background work has a fixed number, and an odd limit is kept."""
    assert set(counts(lambda count: 90.0 * count, 0.1, most=4)) == {4}
    assert max(counts(lambda count: 90.0 * count, 0.1, most=7)) == 7


def test_a_thread_that_computes_keeps_a_core_busy_and_one_that_waits_does_not() -> None:
    """Of this process only; what others do on the cores between is not counted."""
    busy = CoresBusy()
    time.sleep(0.2)
    waited = busy()
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    assert waited < busy() <= 2.0


def test_workers_that_are_not_wanted_any_more_leave_and_the_work_is_done() -> None:
    """A store of fixed speed: everything is moved once, by the number it began with at last."""
    pieces: Iterator[int] = iter(range(150))
    lock, done = threading.Lock(), list[int]()

    def work(stay: Stay) -> None:
        while stay():
            with lock:
                piece = next(pieces, None)
                if piece is None:
                    return
                time.sleep(0.01)  # the store serves one at a time
                done.append(piece)

    Workers(work, 2, 8, lambda: len(done)).run()
    assert sorted(done) == list(range(150))
