"""Another scheduler starts the job: asked, saved and restored here, started by nobody else."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path

from spotwatchd.rehearsal import tree
from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import World


class Scheduler:
    """What a scheduler does: starts a line on a machine, signals it, looks at how it ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.count = 0
        self.limit = world.root / "limit"
        self.ends_at(100_000)

    def ends_at(self, step: int) -> None:
        """How far the next attempt goes. The line stays the same, or it would be another job."""
        self.limit.write_text(str(step))

    def start(self, machine: Machine) -> Path:
        """Start the line. Returns where its exit status will be."""
        self.count += 1
        status = machine.root / f"status-{self.count}"
        python, stub, log, _, *rest = self.world.argv()
        program = f"exec {python} {stub} {log} $(cat {self.limit}) {' '.join(rest)}"
        words = [sys.executable, "-m", "spotwatchd.cli.main", "--socket", machine.socket, "run"]
        words += ["--external", "--name", "job", "--checkpoint-dir", str(machine.disk / "job")]
        line = shlex.join([*words, "--", "sh", "-c", program])
        # In two steps: a file that is there is complete.
        script = f"{line}; echo $? > {status}.new; mv {status}.new {status}"
        machine.spawn(["sh", "-c", script], machine.root / f"said-{self.count}")
        return status

    def said(self, machine: Machine) -> str:
        """What the newest line printed."""
        return (machine.root / f"said-{self.count}").read_text()

    def keeper(self, machine: Machine) -> int:
        """The process that the scheduler signals."""

        def found() -> list[int]:
            return [
                pid
                for pid in machine.processes("run --external")
                if not tree.command(pid).startswith("sh ")
            ]

        pids: list[int] = self.world.until(found, "the line runs")
        return pids[0]

    def training(self, machine: Machine) -> list[int]:
        """The program itself, not what has it on its command line."""
        program = " ".join(self.world.argv()[:2])
        found = machine.processes("stub_job.py")
        return [pid for pid in found if tree.command(pid).startswith(program)]

    def ended(self, status: Path) -> int:
        """Wait for its exit status."""
        self.world.until(status.exists, f"the line of {status.name} ends")
        return int(status.read_text())


def test_saved_here_and_gone_on_with_there(world: World) -> None:
    """Exit 75 asks for a requeue; the same line on another machine restores; 0 is the end."""
    scheduler, first = Scheduler(world), world.machine()
    status = scheduler.start(first)
    world.reach(50)
    assert first.job("job")["state"] == "running"
    first.imds.announce("terminate", 20)
    assert scheduler.ended(status) == 75
    world.until(lambda: world.head()["state"] == "interrupted", "the lease is given back")
    saved = world.committed()
    assert saved == world.step()
    first.destroy()
    second = world.machine()
    shown = world.until(lambda: second.job("job"), "it is shown where it was not started")
    assert (shown["state"], shown["life"]) == ("interrupted", None)
    assert "--external" in shown["remedy"]
    assert not scheduler.training(second), "no daemon starts it"
    scheduler.ends_at(saved + 50)
    assert scheduler.ended(scheduler.start(second)) == 0
    world.until(lambda: world.head()["state"] == "finished", "it is over")
    assert world.computed_twice() == 0
    assert [line["resumed"] for line in world.lines() if "resumed" in line] == [0, saved]
    # A scheduler that asks once more is told that all is done.
    assert scheduler.ended(scheduler.start(second)) == 0
    assert world.step() == saved + 50


def test_a_second_owner_does_not_start_it(world: World) -> None:
    """Here it is refused, with who has it; elsewhere it waits for the lease."""
    scheduler, first, second = Scheduler(world), world.machine(), world.machine()
    scheduler.start(first)
    world.reach(20)
    assert scheduler.ended(scheduler.start(first)) == 1
    assert "runs here already" in scheduler.said(first)
    scheduler.start(second)
    world.until(lambda: "waits for the lease of" in scheduler.said(second), "it waits")
    before = world.step()
    world.reach(before + 50)
    assert not scheduler.training(second)
    second.signal(scheduler.keeper(second), signal.SIGTERM)
    world.until(lambda: second.job("job")["life"] == "waiting", "nobody waits there any more")
    assert world.head()["generation"] == 1


def test_the_scheduler_ends_it(world: World) -> None:
    """SIGTERM: it saves, ends and asks for a requeue, without a notice of the machine."""
    scheduler, machine = Scheduler(world), world.machine()
    status = scheduler.start(machine)
    world.reach(50)
    machine.signal(scheduler.keeper(machine), signal.SIGTERM)
    assert scheduler.ended(status) == 75
    assert world.committed() >= 50
    world.until(lambda: machine.job("job")["life"] == "waiting", "the lease is given back")
    assert not scheduler.training(machine)


def test_its_keeper_is_killed(world: World) -> None:
    """SIGKILL: the program does not outlive it, and does not run beside the next one."""
    scheduler, machine = Scheduler(world), world.machine()
    scheduler.start(machine)
    world.reach(50)
    machine.post("/v1/jobs/job/ask")
    saved = world.until(world.committed, "a checkpoint is committed")
    machine.signal(scheduler.keeper(machine), signal.SIGKILL)
    world.until(lambda: machine.job("job")["life"] == "waiting", "the lease is given back")
    assert not scheduler.training(machine)
    scheduler.ends_at(saved + 100)
    assert scheduler.ended(scheduler.start(machine)) == 0
    assert [line["resumed"] for line in world.lines() if "resumed" in line] == [0, saved]


def test_its_own_failure_is_the_schedulers(world: World) -> None:
    """The program's status is passed on; what a person stopped is not started again."""
    scheduler, machine = Scheduler(world), world.machine()
    status = scheduler.start(machine)
    world.reach(20)
    (training,) = scheduler.training(machine)
    machine.signal(training, signal.SIGKILL)
    assert scheduler.ended(status) == 128 + signal.SIGKILL
    world.until(lambda: machine.job("job")["life"] == "waiting", "nobody starts it here")
    status = scheduler.start(machine)
    world.until(lambda: machine.job("job")["life"] == "running", "the scheduler does")
    world.reach(world.step() + 5)
    machine.post("/v1/control", {"name": "job", "do": "stop"})
    assert scheduler.ended(status) == 1
    world.until(lambda: world.head()["state"] == "stopped", "it is stopped")
    assert scheduler.ended(scheduler.start(machine)) == 1
    assert "spotwatch start job" in scheduler.said(machine)


def test_the_daemon_is_started_again_meanwhile(world: World) -> None:
    """Killed and started anew, it knows the job again, and saves it."""
    scheduler, machine = Scheduler(world), world.machine()
    status = scheduler.start(machine)
    world.reach(20)
    machine.kill_daemon()
    machine.start_daemon()
    world.until(lambda: (machine.job("job") or {}).get("processes"), "its keeper is back")
    world.until(lambda: machine.job("job")["life"] == "running", "it runs")
    machine.imds.announce("terminate", 20)
    assert scheduler.ended(status) == 75
    assert world.committed() == world.step()
    assert world.computed_twice() == 0
