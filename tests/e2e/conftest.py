"""Machines for end-to-end tests: real daemons, real processes, a store of their own."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from pwd import struct_passwd
from typing import Any

import pytest

from spotwatchd.rehearsal.machine import Machine, wait_for
from spotwatchd.store.init import init_store

STUB = Path(__file__).with_name("stub_job.py")
# Short, so that a takeover takes seconds; polls often, so that a notice does.
SETTINGS: dict[str, Any] = {"lease": {"seconds": 3.0}, "imds": {"poll_seconds": 0.1}}


class World:
    """Machines around one store, and the log of the stub job that runs on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "store").mkdir()
        self.store = f"file://{root / 'store'}"
        init_store(self.store)
        self.log = root / "log.jsonl"
        self.machines: list[Machine] = []

    def machine(self, **settings: Any) -> Machine:
        """Switch on a fresh machine."""
        return self.machine_of(None, **settings)

    def machine_of(self, user: struct_passwd | None, **settings: Any) -> Machine:
        """Switch on a fresh machine of ``user``; None: see Machine."""
        name = f"m{len(self.machines) + 1}"
        merged = {**SETTINGS, **settings}
        made = Machine(name, self.root / name, self.store, settings=merged, user=user)
        self.machines.append(made)
        return made.boot()

    def machine_with(self, env: dict[str, str], **settings: Any) -> Machine:
        """Switch on a fresh machine whose daemon has more in its environment."""
        name = f"m{len(self.machines) + 1}"
        merged = {**SETTINGS, **settings}
        made = Machine(name, self.root / name, self.store, settings=merged, env=env)
        self.machines.append(made)
        return made.boot()

    def argv(
        self, steps: int = 100_000, step: float = 0.01, save: float = 0.0, kilobytes: int = 4
    ) -> list[str]:
        """The stub job's command line."""
        numbers = (steps, step, save, kilobytes)
        return [sys.executable, str(STUB), str(self.log), *map(str, numbers)]

    def lines(self) -> list[dict[str, Any]]:
        """What the job wrote, on all machines."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def step(self) -> int:
        """The newest step."""
        return max((line["step"] for line in self.lines() if "step" in line), default=0)

    def reach(self, step: int) -> None:
        """Wait until the job has come this far."""
        wait_for(lambda: self.step() >= step, f"step {step}\n{self.logs()}", 100)

    def computed_twice(self) -> int:
        """Steps computed more than once."""
        steps = [line["step"] for line in self.lines() if "step" in line]
        return len(steps) - len(set(steps))

    def head(self, job: str = "job") -> dict[str, Any]:
        """The job's head document, as it lies in the store."""
        return self.document(f"{job}/head.json")

    def document(self, key: str) -> dict[str, Any]:
        """The newest version of a document in the store, {} when there is none."""
        versions = sorted((self.root / "store").glob(f"{key}.*"))
        return dict(json.loads(versions[-1].read_bytes())) if versions else {}

    def committed(self, job: str = "job") -> int:
        """The newest committed step, 0 before the first."""
        listed = self.head(job).get("checkpoints", [])
        return int(listed[-1]["step"]) if listed else 0

    def logs(self) -> str:
        """What the daemons and replicators said, for a failing test."""
        paths = [
            path
            for machine in self.machines
            for path in (machine.root / "daemon.log", *machine.root.glob("state/jobs/*/*.log"))
            if path.exists()
        ]
        return "\n".join(f"--- {path}\n{path.read_text()[-3000:]}" for path in paths)

    def until(self, condition: Callable[[], Any], what: str, limit: float = 110.0) -> Any:
        """Wait, with the logs of all machines in the message when it fails."""
        try:
            return wait_for(condition, what, limit)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def close(self) -> None:
        """Switch everything off."""
        for machine in self.machines:
            machine.power_off()


@pytest.fixture
def world() -> Iterator[World]:
    """A store and no machine yet. The path is short: sockets lie below it."""
    root = Path(tempfile.mkdtemp(prefix="sw-"))
    made = World(root)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)
