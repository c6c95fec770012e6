"""Our side of a comparison: a job on a store, and a process that commits its checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from benchmarks.support.measure import Took
from benchmarks.support.shapes import change
from spotwatchd.core.words import Seal
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.local_scan import mark_of
from spotwatchd.wire.seal import sealed_name
from tests.shell.store_protocol.machine import Place, seal_message

ROOT = Path(__file__).resolve().parents[2]
# A lease that needs no renewal while a benchmark runs: a replicator's worker renews it beside.
_LEASE = 3000.0


def seal_links(files: Path, checkpoints: Path, step: int) -> Seal:
    """A sealed checkpoint that consists of other names for the files of ``files``."""
    temporary = checkpoints / f".saving-{step}"
    temporary.mkdir()
    for path in files.iterdir():
        os.link(path, temporary / path.name)
    sealed = checkpoints / sealed_name(step)
    temporary.rename(sealed)
    return Seal(sealed.name, step, mark_of(sealed))


class Committer:
    """A warm process that has taken a job; a context manager."""

    def __init__(self, base: Path, store: str, environment: Mapping[str, str]) -> None:
        """Choose where; ``base`` and the files must be on one file system."""
        self.place = Place(base, store, lease_seconds=_LEASE, keep_last=1)
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._step = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start, take the job, commit something small: connections stand, code is loaded."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.support.committer", str(self.place.job_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self._environment,
        )
        self._read()
        small = self.place.base / "small"
        small.mkdir()
        (small / "state.json").write_text("{}")
        self.commit(small)
        return self

    def commit(self, files: Path) -> Took:
        """Seal new contents of ``files`` and commit them; what the commit took."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        change(files)
        self._step += 1
        seal = seal_links(files, self.place.checkpoints, self._step)
        self._process.stdin.write(json.dumps(seal_message(seal)) + "\n")
        self._process.stdin.flush()
        return Took(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        line = self._process.stdout.readline()
        if not line:
            raise SpotwatchError("our own process ended", where="benchmarks.support.committer")
        return line

    def __exit__(self, *_: object) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
