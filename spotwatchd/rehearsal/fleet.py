"""Many jobs on few simulated GPUs, on machines that come and go at random.

The machines share a store and nothing else. Each lives for a while and ends, with a notice or
at once; a fresh one with an empty disk takes its place a little later. What came of it is read
from the jobs' own lines (fleet_log.py), not from what the daemons say.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.rehearsal import fleet_job, fleet_log
from spotwatchd.rehearsal.fleet_log import Attempt, Order, Up
from spotwatchd.rehearsal.machine import Machine, wait_for
from spotwatchd.store.init import init_store

STEP = 0.25  # seconds
LEASE = 4.0
NOTICE = 8.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """One fleet.

    Attributes:
        seed: decides everything that is left to chance.
        seconds: for which machines come and go.
        gpus: of each machine.
        jobs: how many.
        work: seconds that each would take without any interruption.
        life, pause: shortest and longest life of a machine, and pause before the next.
        grace: see fleet_log.out_of_order.
        limit: seconds for the rest, once the machines stay.
    """

    seed: int
    seconds: float
    gpus: tuple[int, ...] = (2, 1, 1)
    jobs: int = 10
    work: float = 100.0
    life: tuple[float, float] = (25.0, 100.0)
    pause: tuple[float, float] = (2.0, 20.0)
    grace: float = 15.0
    limit: float = 600.0

    def orders(self) -> list[Order]:
        """The jobs: most need one GPU, some two; three priorities."""
        own = random.Random(f"{self.seed}-jobs")  # noqa: S311 - repeatable on purpose
        most = max(self.gpus)
        return [
            Order(f"job{number}", min(own.choice((1, 1, 2)), most), own.randrange(3), number)
            for number in range(self.jobs)
        ]


@dataclass
class Result:
    """What came of it; each list holds one sentence per breach."""

    plan: Plan
    ran: list[Attempt]
    machines: int
    noticed: int
    killed: int
    queues: int
    seconds: float
    breaches: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """It kept the promises."""
        return not self.breaches


class Fleet:
    """The machines of one run, and their jobs."""

    def __init__(self, plan: Plan, root: Path, say: Say = lambda _: None) -> None:
        self.plan, self.root, self.say = plan, root, say
        self.orders = plan.orders()
        self.log = root / "log.jsonl"
        self.url = f"file://{root / 'store'}"
        self.ups: dict[str, Up] = {}
        self.ends = {"notice": 0, "at once": 0}
        self._machines: list[Machine] = []
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._over = threading.Event()
        (root / "store").mkdir()
        init_store(self.url)

    def run(self) -> Result:
        """Submit, let machines come and go, wait until every job has ended."""
        try:
            first = self._boot(0, 1)
            self._submit(first)
            with ThreadPoolExecutor(len(self.plan.gpus)) as pool:
                lives = [
                    pool.submit(self._slot, slot, first if slot == 0 else None)
                    for slot in range(len(self.plan.gpus))
                ]
                try:
                    self._until_done()
                finally:
                    self._over.set()
                for life in lives:
                    life.result()
        finally:
            for machine in self._machines:
                machine.power_off()
        return self._result()

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _tell(self, line: str) -> None:
        self.say(f"{self._elapsed():6.1f} s  {line}")

    # -- jobs --------------------------------------------------------------------------

    def _submit(self, machine: Machine) -> None:
        steps = max(1, int(self.plan.work / STEP))
        argv = [sys.executable, fleet_job.__file__, str(self.log), str(steps), str(STEP)]
        for order in self.orders:
            machine.submit(order.name, argv, gpus=order.gpus, priority=order.priority)
            self._tell(f"{order.name} needs {order.gpus}, priority {order.priority}")

    def _until_done(self) -> None:
        wait_for(
            lambda: not fleet_log.unfinished(fleet_log.attempts(self.log), self.orders),
            "every job ends",
            self.plan.seconds + self.plan.limit,
            every=1.0,
        )
        self._tell("every job has ended")

    # -- machines ----------------------------------------------------------------------

    def _boot(self, slot: int, number: int) -> Machine:
        name = f"m{slot + 1}-{number}"
        settings = {
            "lease": {"seconds": LEASE},
            "imds": {"poll_seconds": 0.5},
            "checkpoint": {"interval": 5.0},
            "jobs": {"stop_grace": 5.0},
            "resources": {"gpus": self.plan.gpus[slot]},
        }
        machine = Machine(name, self.root / name, self.url, settings=settings)
        with self._lock:
            self._machines.append(machine)
        machine.boot()
        since = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.ups[name] = Up(self.plan.gpus[slot], since)
        self._tell(f"{name} is there, with {self.plan.gpus[slot]} GPUs")
        return machine

    def _slot(self, slot: int, machine: Machine | None) -> None:
        """One machine after the other, until the time is over; the last one stays."""
        own = random.Random(f"{self.plan.seed}-{slot}")  # noqa: S311 - repeatable on purpose
        number = 1
        while not self._over.is_set():
            machine = machine or self._boot(slot, number)
            life, notice = own.uniform(*self.plan.life), own.random() < 0.5
            pause = own.uniform(*self.plan.pause)
            if self._elapsed() + life > self.plan.seconds or self._over.wait(life):
                self._over.wait()
                return
            self._end(machine, notice=notice)
            machine, number = None, number + 1
            self._over.wait(pause)

    def _end(self, machine: Machine, *, notice: bool) -> None:
        how = "notice" if notice else "at once"
        with self._lock:
            self.ends[how] += 1
        self._tell(f"{machine.name} goes: {how}")
        if notice:
            machine.imds.announce("terminate", NOTICE)
            time.sleep(NOTICE)
        machine.power_off()

    # -- what came of it -----------------------------------------------------------------

    def _result(self) -> Result:
        ran = fleet_log.attempts(self.log)
        breaches = [
            *fleet_log.used_twice(ran),
            *fleet_log.ran_twice(ran),
            *fleet_log.wrongly_given(ran, self.orders, self.ups),
            *fleet_log.unfinished(ran, self.orders),
            *fleet_log.out_of_order(ran, self.orders, self.ups, self.plan.grace),
        ]
        return Result(
            self.plan,
            ran,
            len(self._machines),
            self.ends["notice"],
            self.ends["at once"],
            fleet_log.starts_with_a_queue(ran, self.orders),
            round(self._elapsed(), 1),
            breaches,
        )
