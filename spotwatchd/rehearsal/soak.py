"""Interruptions at random moments, with and without a notice, on both stores.

Each run trains the example on one machine, ends that machine at a moment of its own, and
lets fresh machines finish it. Every run must end with the weights of the uninterrupted run;
with a notice no step may be computed twice; without one at most what was computed since the
last background save, whose interval the daemon chooses.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotwatchd.rehearsal.demo import store_for
from spotwatchd.rehearsal.machine import Machine, wait_for
from spotwatchd.rehearsal.training import Training

JOB = "soak"
MOMENTS = ("warm-up", "mid-step", "saving", "uploading", "resume")
WINDOW = 20.0
# Seconds. Shorter than the default of 30, so that a run after a sudden death takes seconds.
LEASE = 3.0
LIMIT = 240.0
# Share of the steps before which every interruption comes: later, the run might be over.
LATEST = 0.6
ASKS = 20
# What a save, its upload and its commit may add to an interval.
SLACK = 5.0


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        number: of the run, from 1.
        seed: decides everything below and the exact moment.
        notice: EC2 says so before; otherwise everything ends at once.
        moment: one of MOMENTS.
        store: "dir" or "s3".
    """

    number: int
    seed: int
    notice: bool
    moment: str
    store: str


@dataclass(frozen=True)
class Outcome:
    """What came of a run. ``interval`` is the longest one that the daemon announced."""

    plan: Plan
    identical: bool
    lost_steps: int
    lost_seconds: float
    interval: float
    seconds: float
    machines: int
    error: str = ""

    @property
    def good(self) -> bool:
        """It kept the promises."""
        if self.error or not self.identical:
            return False
        if self.plan.notice:
            return self.lost_steps == 0
        return self.lost_seconds <= self.interval + SLACK


def plan(number: int, seed: int, stores: tuple[str, ...]) -> Plan:
    """The plan of run ``number``: alternating notices and stores, moments at random."""
    own = random.Random(f"{seed}-{number}")  # noqa: S311 - repeatable on purpose
    return Plan(
        number,
        own.randrange(2**32),
        notice=number % 2 == 0,
        moment=own.choice(MOMENTS),
        store=stores[(number // 2) % len(stores)],
    )


class _Run:
    """The life of one run."""

    def __init__(self, what: Plan, root: Path, training: Training) -> None:
        self.plan = what
        self.root = root
        self.training = training
        self.random = random.Random(what.seed)  # noqa: S311 - repeatable on purpose
        self.interval = 0.0
        self.machines: list[Machine] = []

    def machine(self, url: str, environment: dict[str, str]) -> Machine:
        """Switch on a fresh one."""
        number = len(self.machines) + 1
        made = Machine(
            f"m{number}",
            self.root / f"m{number}",
            url,
            env=environment,
            settings={"lease": {"seconds": LEASE}},
        )
        self.machines.append(made)
        return made.boot()

    def go(self, url: str, environment: dict[str, str]) -> None:
        """Train, interrupt, finish."""
        first = self.machine(url, environment)
        first.submit(JOB, self.training.argv(), cwd=str(self.training.directory))
        if self.plan.moment != "resume":
            self._reach(first, self.plan.moment)
            self._end(first)
        else:
            self._reach(first, "mid-step")
            self._end(first)
            second = self.machine(url, environment)
            self._reach(second, "resume")
            self._end(second)
        last = self.machine(url, environment)
        wait_for(self.training.sha256, f"the training ends\n{last.log()}", LIMIT)
        wait_for(
            lambda: (last.job(JOB) or {}).get("state") == "finished",
            f"the job is known as finished\n{last.log()}",
            60,
        )

    def _reach(self, machine: Machine, moment: str) -> None:
        if moment == "resume":
            wait_for(lambda: self._resuming(machine), f"a resume\n{machine.log()}", LIMIT)
            time.sleep(self.random.uniform(0, 1.5))
            return
        wait_for(lambda: machine.processes("train_digits"), f"start\n{machine.log()}", LIMIT)
        if moment == "warm-up":
            time.sleep(self.random.uniform(0, 3))
            return
        target = self.random.randint(5, int(self.training.steps * LATEST))
        wait_for(lambda: self._at(machine, target), f"step {target}\n{machine.log()}", LIMIT)
        if moment == "mid-step":
            time.sleep(self.random.uniform(0, 0.05))
            return
        pattern = ".saving-*" if moment == "saving" else "step-*"
        for _ in range(ASKS):
            if self._seen(machine, pattern):
                return
        raise TimeoutError(f"{moment} was never seen\n{machine.log()}")

    @staticmethod
    def _seen(machine: Machine, pattern: str) -> bool:
        """Ask for a save, and look until ``pattern`` is there or a save is over."""
        folder = machine.disk / JOB
        old = set(folder.glob("step-*"))
        machine.post(f"/v1/jobs/{JOB}/ask")
        # A save takes some hundredths of a second: look often enough to be in the middle.
        wait_for(
            lambda: any(folder.glob(".saving-*")) or set(folder.glob("step-*")) - old,
            f"a save\n{machine.log()}",
            30,
            every=0.001,
        )
        if pattern == "step-*":
            wait_for(lambda: set(folder.glob(pattern)) - old, f"a seal\n{machine.log()}", 30)
            return True
        return any(folder.glob(pattern))

    def _resuming(self, machine: Machine) -> bool:
        """Something of the checkpoint is on the new disk, or its training runs already."""
        restored = any((machine.disk / JOB).glob(".restoring-*"))
        return restored or bool(machine.processes("train_digits"))

    def _at(self, machine: Machine, target: int) -> bool:
        job = machine.job(JOB)
        if job is not None and job["next_save_seconds"] is not None:
            self.interval = max(self.interval, job["next_save_seconds"])
        return self.training.step() >= target

    def _end(self, machine: Machine) -> None:
        if self.plan.notice:
            machine.imds.announce("terminate", WINDOW)
            end = time.monotonic() + WINDOW
            wait_for(
                lambda: self._gone(machine) or time.monotonic() > end, "the notice", WINDOW + 5
            )
        machine.destroy()

    @staticmethod
    def _gone(machine: Machine) -> bool:
        job: dict[str, Any] = machine.job(JOB) or {}
        return job.get("state") in ("interrupted", "finished")

    def lost_seconds(self) -> float:
        """The longest stretch of training that had to be computed again."""
        done: dict[int, float] = {}
        lost = 0.0
        newest = 0.0
        for step, _, at in self.training.computed():
            if step in done:
                lost = max(lost, newest - done[step])
            else:
                newest = at
            done.setdefault(step, at)
        return round(lost, 3)


def run(what: Plan, steps: int, state_mb: int, control: str) -> Outcome:
    """One run, whatever happens in it."""
    root = Path(tempfile.mkdtemp(prefix="sw-"))
    begun = time.monotonic()
    training = Training(root / "work", steps, state_mb)
    training.directory.mkdir()
    life = _Run(what, root, training)
    error = ""
    try:
        with store_for(what.store, root) as (url, environment):
            try:
                life.go(url, environment)
            finally:
                for machine in life.machines:
                    machine.power_off()
    except Exception as caught:  # noqa: BLE001 - a run that fails in any way is a result, not the end
        error = f"{type(caught).__name__}: {caught}"
    finally:
        outcome = Outcome(
            what,
            training.sha256() == control,
            training.computed_twice(),
            life.lost_seconds(),
            life.interval or 10.0,
            round(time.monotonic() - begun, 1),
            len(life.machines),
            error,
        )
        if not error:  # else it is kept for a look
            shutil.rmtree(root, ignore_errors=True)
    return outcome


def control_run(steps: int, state_mb: int) -> str:
    """Fingerprint of the uninterrupted run."""
    root = Path(tempfile.mkdtemp(prefix="sw-"))
    try:
        training = Training(root, steps, state_mb)
        training.alone().wait(LIMIT)
        found = training.sha256()
        if found is None:
            raise RuntimeError((root / "output.log").read_text()[-2000:])
        return found
    finally:
        shutil.rmtree(root, ignore_errors=True)


Progress = Callable[[Outcome], None]
