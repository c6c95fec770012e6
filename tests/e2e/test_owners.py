"""One owner: races, sleepers, and a store that is away."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotwatchd.rehearsal import tree
from spotwatchd.rehearsal.race import Race
from tests.e2e.conftest import World


@pytest.fixture
def short_root() -> Iterator[Path]:
    """A directory below which sockets fit."""
    root = Path(tempfile.mkdtemp(prefix="sw-"))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("count", [2, 4])
def test_one_of_several_daemons_gets_the_job(short_root: Path, count: int) -> None:
    """All start the same job at once: it runs on exactly one, and all know that it finished."""
    race = Race(short_root, count, lease=2.0)
    try:
        race.boot()
        rounds = [race.run(f"job{number}") for number in range(4)]
    finally:
        race.close()
    assert [each.good for each in rounds] == [True] * 4, rounds


def test_a_sleeper_that_wakes_up_changes_nothing(world: World) -> None:
    """A machine stopped past its lease: another takes the job; woken, it stops its processes."""
    first = world.machine(checkpoint={"min_interval": 1.0})
    first.submit("job", world.argv(steps=100_000))
    world.until(world.committed, "a background checkpoint")
    asleep = first.all_processes()
    tree.signal_all(asleep, signal.SIGSTOP)
    second = world.machine(checkpoint={"min_interval": 1.0})
    world.until(lambda: (second.job("job") or {}).get("state") == "running", "the takeover")
    world.until(lambda: world.head()["generation"] == 2, "the new generation")
    listed = [each["id"] for each in world.head()["checkpoints"]]
    tree.signal_all(asleep, signal.SIGCONT)
    world.until(lambda: not first.processes("stub_job.py"), "the sleeper stops its process")
    world.until(lambda: len(world.head()["checkpoints"]) > len(listed), "the owner goes on")
    head = world.head()
    assert head["generation"] == 2
    assert all(each["id"].startswith("00000002-") for each in head["checkpoints"][len(listed) :])
    for each in head["checkpoints"]:
        folder = world.root / "store" / "job" / "checkpoints" / each["id"]
        assert (folder / "MANIFEST.json").exists()


def test_training_goes_on_while_the_store_is_away(world: World) -> None:
    """Away for longer than the lease: the process is not touched; then commits follow."""
    machine = world.machine(checkpoint={"min_interval": 1.0})
    machine.submit("job", world.argv())
    world.until(world.committed, "a background checkpoint")
    (training,) = machine.processes("stub_job.py")[-1:]
    store, away = world.root / "store", world.root / "away"
    store.rename(away)
    before = world.step()
    world.reach(before + 500)  # over 5 s of training; the lease is 3 s
    away.rename(store)
    world.until(lambda: world.committed() > before, "commits follow")
    assert training in machine.processes("stub_job.py")
    assert world.head()["generation"] == 1
    assert world.computed_twice() == 0


def test_an_interruption_while_the_store_is_away_says_what_is_lost(world: World) -> None:
    """No store until the deadline: abandoned with the reason, on the receipt, and nothing hangs."""
    machine = world.machine()
    machine.submit("job", world.argv())
    world.reach(50)
    (world.root / "store").rename(world.root / "away")
    machine.imds.announce("terminate", 4)
    world.until(
        lambda: [each for each in machine.get("/v1/receipts") if each["outcome"]],
        "the receipt is written",
    )
    (receipt,) = machine.get("/v1/receipts")
    assert receipt["outcome"] == "abandoned"
    assert receipt["reason"]
    assert list((machine.disk / "job").glob("step-*")), "the local checkpoint is kept"
