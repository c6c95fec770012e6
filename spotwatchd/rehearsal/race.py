"""Several machines want the same unfinished job at the same moment: one gets it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from spotwatchd.rehearsal.machine import Machine, wait_for
from spotwatchd.store.init import init_store


@dataclass(frozen=True)
class Round:
    """What came of one race.

    Attributes:
        starts: names of the machines on which the job was started.
        states: how each machine sees the job in the end.
    """

    job: str
    starts: tuple[str, ...]
    states: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Exactly one owner, and everybody knows that the job is finished."""
        return len(self.starts) == 1 and set(self.states) == {"finished"}


class Race:
    """``count`` machines on one directory store."""

    def __init__(self, root: Path, count: int, lease: float) -> None:
        self._log = root / "starts.jsonl"
        (root / "store").mkdir()
        url = f"file://{root / 'store'}"
        init_store(url)
        settings = {"lease": {"seconds": lease}, "imds": {"endpoint": "off"}}
        settings["jobs"] = {"max_jobs": 10_000}
        self.machines = [
            Machine(f"m{number}", root / f"m{number}", url, settings=settings)
            for number in range(count)
        ]

    def boot(self) -> None:
        """Switch all machines on."""
        with ThreadPoolExecutor(len(self.machines)) as pool:
            list(pool.map(Machine.boot, self.machines))

    def run(self, job: str, limit: float = 60.0) -> Round:
        """Every machine starts ``job`` at once; returns when all know how it ended."""
        with ThreadPoolExecutor(len(self.machines)) as pool:
            list(pool.map(lambda machine: self._submit(machine, job), self.machines))
        wait_for(
            lambda: all(self._state(machine, job) == "finished" for machine in self.machines),
            f"{job} is finished everywhere: {[self._state(m, job) for m in self.machines]}",
            limit,
        )
        return Round(job, self._starts(job), tuple(self._state(m, job) for m in self.machines))

    def _submit(self, machine: Machine, job: str) -> None:
        # The same words everywhere, or it would not be the same job.
        line = json.dumps({"job": job, "checkpoints": "%s"})
        script = f"printf '{line}\\n' \"$SPOTWATCH_CHECKPOINT_DIR\" >> {self._log}; sleep 0.3"
        machine.submit(job, ["/bin/sh", "-c", script])

    @staticmethod
    def _state(machine: Machine, job: str) -> str:
        return str(machine.get(f"/v1/jobs/{job}")["state"])

    def _starts(self, job: str) -> tuple[str, ...]:
        lines = map(json.loads, self._log.read_text().splitlines())
        names = {str(machine.disk / job): machine.name for machine in self.machines}
        return tuple(names[line["checkpoints"]] for line in lines if line["job"] == job)

    def close(self) -> None:
        """Switch them off."""
        for machine in self.machines:
            machine.power_off()
