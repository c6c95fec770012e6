"""Two jobs, one link, and no time for both: the daemon sees to it that one is saved."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.support.sink import Sink
from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import STUB, World

RATE = 5e6  # bytes per second
KILOBYTES = 30_000  # six seconds of the link for each job
WINDOW = 10.0
JOBS = ("first", "second")


@pytest.fixture(scope="module")
def slow_store() -> Iterator[Sink]:
    """A store behind a slow link."""
    with Sink(keep=True, rate=RATE) as sink:
        yield sink


def test_one_of_two_is_saved_where_both_would_be_lost_side_by_side(
    world: World, slow_store: Sink
) -> None:
    """Sharing the link evenly would commit neither; what was decided is told with its figures."""
    machine = Machine(
        "m1",
        world.root / "m1",
        slow_store.store,
        settings={"imds": {"poll_seconds": 0.1}, "checkpoint": {"min_interval": 5.0}},
        env=slow_store.environment,
    )
    world.machines.append(machine)
    machine.boot()
    for name in JOBS:
        numbers = ("100000", "0.05", "0.1", str(KILOBYTES))
        log = str(world.root / f"{name}.jsonl")
        machine.submit(name, [sys.executable, str(STUB), log, *numbers])
    # Both have uploaded once, so sizes and the link are known.
    world.until(lambda: all(machine.job(name)["committed_step"] for name in JOBS), "two commits")

    machine.imds.announce("terminate", WINDOW)

    def ended() -> list[dict[str, Any]]:
        return [receipt for receipt in machine.get("/v1/receipts") if receipt["outcome"]]

    world.until(lambda: len(ended()) == len(JOBS), "two receipts")
    receipts = ended()
    assert sorted(each["outcome"] for each in receipts) == ["abandoned", "committed"], receipts
    told = [decision["text"] for receipt in receipts for decision in receipt["decisions"]]
    assert any("MB/s needs" in text and "saves" in text for text in told), told
