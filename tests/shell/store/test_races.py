"""One winner per round, on both stores, with two dozen writers that start at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from spotwatchd.errors import Conflict
from spotwatchd.store.base import Backend
from spotwatchd.store.open import open_backend
from spotwatchd.store.options import StoreOptions
from tests.servers.seaweed import Seaweed

RACERS = 24
ROUNDS = 20
LIMIT = 180.0  # seconds that a racer waits for the others


@dataclass(frozen=True)
class Lane:
    """A document, and what its racers share."""

    store: Backend
    key: str
    rounds: int
    barrier: Any
    results: Any


def newest(store: Backend, key: str) -> str | None:
    found = store.read_document(key)
    return found.version if found else None


def race(lane: Lane, me: int) -> None:
    """One racer's life: per round, look, wait for all, write, report whether it won."""
    for number in range(lane.rounds):
        expected = newest(lane.store, lane.key)
        lane.barrier.wait(LIMIT)
        with contextlib.suppress(Conflict):
            lane.store.write_document(lane.key, f"{number} {me}".encode(), expected)
            lane.results.append((number, me))
        lane.barrier.wait(LIMIT)


def check(lane: Lane) -> None:
    results = list(lane.results)
    assert sorted(number for number, _ in results) == list(range(lane.rounds))
    found = lane.store.read_document(lane.key)
    assert found is not None
    assert found.body.decode() == "{} {}".format(*max(results))


def run(lane: Lane, make: Callable[[int], Any]) -> None:
    racers = [make(me) for me in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(LIMIT)
    check(lane)


def run_threads(store: Backend, rounds: int) -> None:
    lane = Lane(store, "job/lease.json", rounds, threading.Barrier(RACERS), [])
    run(lane, lambda me: threading.Thread(target=race, args=(lane, me), daemon=True))


def test_threads_race_on_one_directory(directory: Backend) -> None:
    """A backend may be called from several threads, and one of 24 wins each of 20 rounds."""
    run_threads(directory, ROUNDS)


@pytest.mark.timeout(LIMIT + 60)
def test_threads_race_on_one_bucket(
    seaweed: Seaweed, s3_prefix: str, aws_environment: StoreOptions
) -> None:
    """One of 24 wins each round.

    SeaweedFS lets losers wait for whole seconds (3 s a round on average, 10 s seen), so
    there are few rounds here unless SPOTWATCH_RACE_ROUNDS asks for more.
    """
    patient = replace(aws_environment, endpoint_url=seaweed.endpoint, read_timeout=60.0)
    rounds = int(os.environ.get("SPOTWATCH_RACE_ROUNDS", "5"))
    run_threads(open_backend(f"s3://{s3_prefix}", patient), rounds)


def test_processes_race_on_one_directory(directory: Backend) -> None:
    """24 processes that share nothing but the disk: one of them wins each of 20 rounds."""
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        lane = Lane(directory, "job/lease.json", ROUNDS, context.Barrier(RACERS), manager.list())
        run(lane, lambda me: context.Process(target=race, args=(lane, me), daemon=True))


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
