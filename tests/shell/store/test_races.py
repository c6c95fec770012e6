"""One winner per round, on both stores, with two dozen writers that start at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

from spotwatchd.errors import Conflict
from spotwatchd.store.base import Backend
from spotwatchd.store.open import open_backend

RACERS = 24
ROUNDS = 20
LIMIT = 50.0  # seconds that a racer waits for the others


def newest(store: Backend, key: str) -> str | None:
    found = store.read_document(key)
    return found.version if found else None


def race(store: Backend, me: int, barrier: Any, results: Any) -> None:
    """One racer's life: per round, look, wait for all, write, report whether it won."""
    for number in range(ROUNDS):
        expected = newest(store, "job/lease.json")
        barrier.wait(LIMIT)
        with contextlib.suppress(Conflict):
            store.write_document("job/lease.json", f"{number} {me}".encode(), expected)
            results.append((number, me))
        barrier.wait(LIMIT)


def check(store: Backend, results: list[tuple[int, int]]) -> None:
    assert sorted(number for number, _ in results) == list(range(ROUNDS))
    found = store.read_document("job/lease.json")
    assert found is not None
    assert found.body.decode() == "{} {}".format(*max(results))


def start_all(make: Callable[[int], Any]) -> None:
    racers = [make(me) for me in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(LIMIT)


def test_threads_race_on_one_backend(store: Backend) -> None:
    """A backend may be called from several threads, and one of 24 wins each of 20 rounds."""
    barrier = threading.Barrier(RACERS)
    results: list[tuple[int, int]] = []
    start_all(
        lambda me: threading.Thread(target=race, args=(store, me, barrier, results), daemon=True)
    )
    check(store, results)


def test_processes_race_on_one_directory(directory: Backend) -> None:
    """24 processes that share nothing but the disk: one of them wins each of 20 rounds."""
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.list()
        barrier = context.Barrier(RACERS)
        start_all(
            lambda me: context.Process(
                target=race, args=(open_backend(directory.url), me, barrier, results), daemon=True
            )
        )
        check(directory, list(results))


def chase(store: Backend, seconds_left: Any, results: Any) -> None:
    """Write as often as possible, each time on what was just read."""
    while not seconds_left.is_set():
        expected = newest(store, "job/head.json")
        with contextlib.suppress(Conflict):
            results.append(int(store.write_document("job/head.json", b"1", expected)))


def test_readers_are_never_disturbed_by_pruning(directory: Backend) -> None:
    """While four writers race through versions, a reader only sees numbers grow."""
    directory.write_document("job/head.json", b"0", None)
    over = threading.Event()
    won: list[int] = []
    writers = [
        threading.Thread(target=chase, args=(directory, over, won), daemon=True) for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    seen = []
    while len(won) < 200:
        found = directory.read_document("job/head.json")
        assert found is not None
        seen.append(int(found.version))
    over.set()
    for writer in writers:
        writer.join(LIMIT)
    assert seen == sorted(seen)
    assert len(set(won)) == len(won)
    assert set(won) < set(range(2, max(won) + 1)) | {max(won)}
    assert newest(directory, "job/head.json") == str(max([*won, *seen]))
