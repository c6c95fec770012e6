"""kill -9 of the daemon in every phase of a drain: the drain goes on and ends committed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import World

SAVE = 0.6  # seconds that the stub's save takes, so that there is a phase to hit


def _replicator(machine: Machine) -> int:
    (pid,) = machine.processes("spotwatchd.store.replicator")
    return pid


def _at_once(_world: World, _machine: Machine) -> None:
    """Before the daemon can have seen anything."""


def _asked(world: World, machine: Machine) -> None:
    """The job was asked and saves."""
    world.until(lambda: list((machine.disk / "job").glob(".saving-*")), "the save begins")


def _sealed(world: World, machine: Machine) -> None:
    """Sealed; the replicator is held, so nothing is uploaded."""
    os.kill(_replicator(machine), signal.SIGSTOP)
    world.until(lambda: list((machine.disk / "job").glob("step-*")), "the seal")


def _uploading(world: World, machine: Machine) -> None:
    """The daemon has told the (held) replicator to upload."""
    _sealed(world, machine)
    world.until(lambda: machine.job("job")["state"] == "saving", "the daemon knows the seal")


def _committed(world: World, _machine: Machine) -> None:
    """Head lists it; the lease is not given back yet."""
    world.until(world.committed, "the commit")


def _exited(world: World, machine: Machine) -> None:
    """The training process is gone."""
    world.until(lambda: not machine.processes("stub_job"), "the job leaves")


PHASES: list[Callable[[World, Machine], None]] = [
    _at_once,
    _asked,
    _sealed,
    _uploading,
    _committed,
    _exited,
]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__.strip("_"))
def test_the_drain_survives_the_daemon(
    world: World, phase: Callable[[World, Machine], None]
) -> None:
    """Killed in this phase and started again, the daemon finishes the drain; nothing is lost."""
    machine = world.machine()
    machine.submit("job", world.argv(steps=100_000, save=SAVE))
    world.reach(30)
    machine.imds.announce("terminate", 30)
    phase(world, machine)
    machine.kill_daemon()
    for pid in machine.processes("spotwatchd.store.replicator"):
        os.kill(pid, signal.SIGCONT)
    machine.start_daemon()
    world.until(
        lambda: (machine.job("job") or {}).get("state") == "interrupted", "the drain ends", 40
    )
    assert world.head()["state"] == "interrupted"
    assert world.committed() == world.step()
    attempts = [line for line in world.lines() if "resumed" in line]
    assert len(attempts) == 1  # the training never noticed, except for the ask


def test_training_survives_the_daemon(world: World) -> None:
    """Killed in quiet times: the training goes on, and the next daemon saves it as usual."""
    machine = world.machine()
    machine.submit("job", world.argv())
    world.reach(30)
    (training,) = machine.processes("stub_job.py")[-1:]
    machine.kill_daemon()
    world.reach(world.step() + 50)
    machine.start_daemon()
    world.until(lambda: machine.job("job")["processes"] >= 0, "it is known again")
    machine.post("/v1/jobs/job/ask")
    world.until(world.committed, "it is saved")
    assert training in machine.processes("stub_job.py")
    assert len([line for line in world.lines() if "resumed" in line]) == 1


def test_a_job_that_ended_unseen_is_known(world: World) -> None:
    """It finishes while no daemon is there: the next one knows it from the shim's record."""
    machine = world.machine()
    machine.submit("job", world.argv(steps=150))
    world.reach(100)
    machine.kill_daemon()
    world.until(lambda: not machine.processes("stub_job"), "the job ends")
    machine.start_daemon()
    world.until(lambda: machine.job("job")["state"] == "finished", "it is known as finished")
    assert world.committed() == 150
