"""The protocol in this process, without threads: for tests that look at one step at a time."""

from __future__ import annotations

from pathlib import Path

from spotwatchd.core.words import Seal
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.base import Backend
from spotwatchd.store.custody import Custody
from spotwatchd.store.outcomes import Taken
from spotwatchd.store.patience import Patience
from spotwatchd.store.swap import boottime
from spotwatchd.store.sweep import Sweeper
from tests.shell.store_protocol.machine import Place, save


class Heard:
    """Keeps what an owner tells people."""

    def __init__(self) -> None:
        self.alarms: list[SpotwatchError] = []
        self.lines: list[str] = []

    def alarm(self, error: SpotwatchError) -> None:
        """See resuming.Tell."""
        self.alarms.append(error)

    def said(self, line: str) -> None:
        """See resuming.Tell."""
        self.lines.append(line)

    @property
    def text(self) -> str:
        """Everything."""
        return "\n".join([*map(str, self.alarms), *self.lines])


class Hands:
    """A custody and its sweeper on ``machine``."""

    def __init__(self, machine: Place, backend: Backend) -> None:
        self.machine = machine
        self.heard = Heard()
        self.custody = Custody(machine.job(), backend, self.heard)
        self.sweeper = Sweeper(
            backend,
            self.custody.job.name,
            self.custody.job.grace,
            self.custody.tenure,
            self.custody.in_progress,
        )

    @staticmethod
    def limits(seconds: float = 20.0) -> Patience:
        """A test does not wait for ever."""
        return Patience(boottime() + seconds)

    def take(self) -> Taken:
        """Take the job."""
        return self.custody.take(self.limits(), lambda _: None)

    def commit(self, step: int) -> str:
        """Seal and commit ``step``."""
        return self.commit_seal(save(self.machine.checkpoints, step))

    def commit_seal(self, seal: Seal) -> str:
        """Commit what is sealed."""
        return self.custody.commit(seal, "periodic", None, self.limits())

    def release(self, outcome: str = "preempted", crashes: int = 0) -> None:
        """Give the job back."""
        self.custody.release(outcome, crashes, None, self.limits())


def files_of(root: Path) -> list[Path]:
    """Every file below ``root``."""
    return sorted(path for path in root.rglob("*") if path.is_file())
