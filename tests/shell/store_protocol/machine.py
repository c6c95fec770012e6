"""A machine with one job: a checkpoint directory, a daemon's socket, a real replicator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spotwatchd.core.head import Head
from spotwatchd.core.words import Seal
from spotwatchd.store.base import Backend
from spotwatchd.store.heads import read_head
from spotwatchd.store.job_file import JobFile, read_job_file
from spotwatchd.store.local_scan import mark_of
from spotwatchd.wire.seal import sealed_name
from tests.shell.store_protocol.daemon import Daemon, Message

ROOT = Path(__file__).parents[3]
JOB = "digits"
REPLICATOR = ("-m", "spotwatchd.store.replicator")


def content(step: int) -> dict[str, bytes]:
    """The files of the checkpoint of ``step``: of three sizes, one in a folder."""
    seed = f"step {step} ".encode()
    return {"model.pt": seed * 5000, "optimizer/state.bin": seed * 300, "small.json": seed}


def save(directory: Path, step: int, files: dict[str, bytes] | None = None) -> Seal:
    """Seal a checkpoint as the client does: written elsewhere, then renamed."""
    temporary = directory / f".saving-{step}-{uuid.uuid4().hex}"
    for name, body in (content(step) if files is None else files).items():
        path = temporary / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    sealed = directory / sealed_name(step)
    temporary.rename(sealed)
    return Seal(sealed.name, step, mark_of(sealed))


def holds(directory: Path, step: int) -> bool:
    """Whether the checkpoint of ``step`` is there, byte for byte."""
    sealed = directory / sealed_name(step)
    found = {
        str(path.relative_to(sealed)): path.read_bytes()
        for path in sealed.rglob("*")
        if path.is_file()
    }
    return found == content(step)


def seal_message(seal: Seal) -> Message:
    """As it stands in commands."""
    return {"path": seal.path, "step": seal.step, "mark": seal.mark}


class Place:
    """A checkpoint directory and a runtime directory of one job on one machine, in ``base``."""

    def __init__(self, base: Path, store: str, name: str = "a", **settings: Any) -> None:
        self.name = name
        self.base = base / name
        self.checkpoints = self.base / "ckpt"
        self.runtime = self.base / "run"
        self.checkpoints.mkdir(parents=True)
        self.runtime.mkdir()
        self.boot_id = uuid.uuid4().hex
        self.store = store
        self.settings: dict[str, Any] = {
            "lease_seconds": 2.0,
            "keep_last": 3,
            "keep_every": 0,
            "grace_seconds": 0.2,
            **settings,
        }

    def job_path(self) -> Path:
        """Write the job's document."""
        path = self.base / "job.json"
        document = {
            "name": JOB,
            "uid": os.getuid(),
            "gid": os.getgid(),
            "checkpoint_dir": str(self.checkpoints),
            "checkpoint_glob": None,
            "store": self.store,
            "socket": str(self.base / "s"),
            "runtime_dir": str(self.runtime),
            "machine": f"i-{self.name}",
            "boot_id": self.boot_id,
            "spec": {"version": 1, "name": JOB, "run_id": "run-1", "argv": ["true"]},
            **self.settings,
        }
        path.write_text(json.dumps(document))
        return path

    def job(self) -> JobFile:
        """As the replicator reads it."""
        return read_job_file(self.job_path())

    def forget_boot(self) -> None:
        """Another boot, an empty /run."""
        self.boot_id = uuid.uuid4().hex
        for path in self.runtime.iterdir():
            path.unlink()


class Machine(Place):
    """``start`` runs its replicator, ``daemon`` talks to it."""

    def __init__(self, base: Path, store: str, name: str = "a", **settings: Any) -> None:
        super().__init__(base, store, name, **settings)
        self.daemon = Daemon(self.base / "s")
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.base / "log"

    def start(self, command: Sequence[str] = REPLICATOR) -> None:
        """Run a replicator."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--job", str(self.job_path())],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )

    def start_stepper(self, order: str) -> None:
        """Run one that interrupts itself (stepper.py)."""
        os.environ["STEPPER"] = order
        try:
            self.start(("-m", "tests.shell.store_protocol.stepper"))
        finally:
            del os.environ["STEPPER"]

    def stopped(self) -> bool:
        """Whether its process is stopped by a signal."""
        assert self.process is not None
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def signal(self, number: signal.Signals) -> None:
        """Send it to the replicator."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait(10)
        self.daemon.hang_up()

    def reboot(self) -> None:
        """All processes gone, another boot, an empty /run."""
        self.kill()
        self.forget_boot()

    def close(self) -> None:
        """Leave nothing running."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
        self.kill()
        self.daemon.stop()

    def take(self, seconds: float = 30.0) -> Message:
        """Take the job; the answer must be ``taken``."""
        return self.daemon.ask("take", "taken", seconds=seconds)

    def commit(self, step: int, **more: Any) -> Message:
        """Seal, upload and commit; the answers must say so."""
        seal = seal_message(save(self.checkpoints, step))
        fields: dict[str, Any] = {"seal": seal, "cause": "periodic", "deadline": None}
        self.daemon.ask("upload", "uploaded", **fields)
        return self.daemon.ask("commit", "committed", **fields, interruption=None, **more)

    def release(self, outcome: str = "preempted", crashes: int = 0) -> Message:
        """Give the job back."""
        return self.daemon.ask(
            "release", "released", outcome=outcome, crashes=crashes, interruption=None
        )


def head_of(backend: Backend) -> Head:
    """Head, which must be there and readable."""
    head = read_head(backend, JOB)
    assert head is not None
    return head


def steps(backend: Backend) -> list[int]:
    """The committed steps, oldest first."""
    return [entry.id.step for entry in head_of(backend).checkpoints]
