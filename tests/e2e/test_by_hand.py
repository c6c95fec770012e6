"""A program that somebody started by hand registers itself and is saved and restored too."""

from __future__ import annotations

from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import World


def _start(world: World, machine: Machine, steps: int = 100_000) -> int:
    """The stub job as a person starts it: no launcher, no job in the environment."""
    return machine.spawn(
        world.argv(steps=steps),
        machine.root / "by-hand.log",
        SPOTWATCH_SOCKET=machine.socket,
        STUB_NAME="job",
        STUB_DIR=str(machine.disk / "job"),
    )


def test_it_is_saved_at_a_notice_and_goes_on_elsewhere(world: World) -> None:
    """Registered, asked, committed; started by hand on a fresh machine it goes on from there."""
    first = world.machine()
    _start(world, first)
    world.reach(50)
    assert first.job("job")["processes"] == 1
    world.until(lambda: first.job("job")["life"] == "running", "the lease is held")
    first.imds.announce("terminate", 15)
    world.until(lambda: first.job("job")["state"] == "interrupted", "it is settled")
    saved = world.committed()
    assert saved == world.step()
    command = f"{world.argv()[1]} {world.log}"
    (receipt,) = first.get("/v1/receipts")
    assert command in receipt["resume_command"]
    first.destroy()
    second = world.machine()
    shown = world.until(lambda: second.job("job"), "it is shown where it was not started")
    assert shown["state"] == "interrupted"
    assert shown["remedy"].startswith("to go on: cd ")
    assert command in shown["remedy"]
    assert not second.processes("stub_job.py")
    _start(world, second, steps=saved + 50)
    world.until(lambda: world.committed() == saved + 50, "it goes on and ends")
    assert world.computed_twice() == 0
    assert [line["resumed"] for line in world.lines() if "resumed" in line] == [0, saved]


def test_the_daemon_does_not_start_it(world: World) -> None:
    """It crashes: nobody restarts what somebody else started."""
    machine = world.machine()
    pid = _start(world, machine)
    world.reach(20)
    world.until(lambda: machine.job("job")["life"] == "running", "the lease is held")
    machine.signal(pid, 9)
    world.until(lambda: machine.job("job")["processes"] == 0, "it is gone")
    world.until(
        lambda: machine.job("job")["life"] in ("waiting", "done"), "the lease is given back"
    )
    assert not machine.processes("stub_job.py")
    _start(world, machine)
    world.until(lambda: machine.job("job")["life"] == "running", "it is taken again")
