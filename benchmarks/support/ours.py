"""Our side of a comparison: a job on a store, and a process that moves its checkpoints."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from benchmarks.support.child import Child
from benchmarks.support.measure import Took
from benchmarks.support.shapes import change
from spotwatchd.core.words import Seal
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.layout import checkpoints_prefix
from spotwatchd.store.local_scan import mark_of
from spotwatchd.wire.seal import sealed_name
from tests.shell.store_protocol.machine import JOB, Machine, Place, seal_message

# A lease that needs no renewal while a benchmark runs: a replicator's other thread renews it.
_LEASE = 3000.0
_LONGEST = 600.0


def seal_links(files: Path, checkpoints: Path, step: int) -> Seal:
    """A sealed checkpoint that consists of other names for the files of ``files``.

    Linked elsewhere on the same disk: nobody may begin with it before it is sealed.
    """
    temporary = files.parent / f"links-{step}"
    temporary.mkdir()
    for path in files.iterdir():
        os.link(path, temporary / path.name)
    return rename_sealed(temporary, checkpoints, step)


def rename_sealed(folder: Path, checkpoints: Path, step: int) -> Seal:
    """Seal what is in ``folder``."""
    sealed = checkpoints / sealed_name(step)
    folder.rename(sealed)
    return Seal(sealed.name, step, mark_of(sealed))


class Committer:
    """A warm process that has taken a job, and its custody alone; a context manager.

    Attributes:
        checkpoint: the id of what was committed last.
        prefix: where its files are in the bucket.
    """

    def __init__(self, base: Path, store: str, environment: Mapping[str, str]) -> None:
        """Choose where; ``base`` and the files must be on one file system."""
        self.place = Place(base, store, lease_seconds=_LEASE, keep_last=1)
        self._child = Child(
            "benchmarks.support.committer", self.place.job_path(), environment=environment
        )
        self._step = 0
        self.checkpoint = self.prefix = ""

    def __enter__(self) -> Self:
        """Start, take the job, commit something small: connections stand, code is loaded."""
        self._child.__enter__()
        self._child.read()
        small = self.place.base / "small"
        small.mkdir()
        (small / "state.json").write_text("{}")
        self.commit(small)
        return self

    def commit(self, files: Path) -> Took:
        """Seal new contents of ``files`` and commit them; what the commit took."""
        change(files)
        self._step += 1
        seal = seal_links(files, self.place.checkpoints, self._step)
        answer = json.loads(self._child.ask(json.dumps(seal_message(seal))))
        self.checkpoint = str(answer.pop("id"))
        self.prefix = f"store/{checkpoints_prefix(JOB)}/{self.checkpoint}"
        return Took(**answer)

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._child.__exit__()


class Moving:
    """A replicator process that has taken its job, and the daemon that it talks to."""

    def __init__(self, machine: Machine) -> None:
        """A machine whose replicator runs."""
        self._machine = machine
        self.checkpoints = machine.checkpoints
        machine.take(_LONGEST)

    def weigh(self, level: str) -> None:
        """``background`` or ``urgent``."""
        self._machine.daemon.tell("weight", level=level)

    def commit(self, seal: Seal) -> float:
        """Upload and commit as the daemon has it done; seconds."""
        fields = {"seal": seal_message(seal), "cause": "notice", "deadline": None}
        began = time.monotonic()
        for do, done, failed in (
            ("upload", "uploaded", "upload_failed"),
            ("commit", "committed", "commit_failed"),
        ):
            more = {"interruption": None} if do == "commit" else {}
            answer = self._machine.daemon.ask(do, done, failed, seconds=_LONGEST, **fields, **more)
            if answer["event"] == failed:
                raise SpotwatchError(f"our {do} failed: {answer['reason']}", where=seal.path)
        return time.monotonic() - began


@contextmanager
def moving(base: Path, store: str, environment: Mapping[str, str]) -> Iterator[Moving]:
    """Run a replicator on a machine of its own."""
    before = dict(os.environ)
    os.environ.update(environment)
    machine = Machine(base, store, lease_seconds=60.0, keep_last=1)
    try:
        machine.start()
        yield Moving(machine)
    finally:
        machine.close()
        os.environ.clear()
        os.environ.update(before)
