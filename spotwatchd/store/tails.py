"""The end of each attempt's output, kept in the store for those who come later.

JOB/logs/ATTEMPT-MACHINE.log: small, plain, written by the replicator when an attempt ends and
now and then before that, so that what a machine said is there when the machine is not.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

from spotwatchd.errors import JobError
from spotwatchd.store.base import Backend

# What a person reads; the reason for an end is in the last lines.
TAIL_BYTES = 256 << 10
# Of more attempts than this nobody reads the first ones.
_KEPT = 20
_NAME = re.compile(r"(?P<attempt>\d{4,})-(?P<machine>.+)\.log")
_ATTEMPT = re.compile(r"attempt-(\d+)")


def log_key(job: str, attempt: int, machine: str) -> str:
    """Where the output of an attempt lies in the store."""
    return f"{job}/logs/{attempt:04d}-{re.sub('[^A-Za-z0-9._-]', '_', machine)}.log"


def newest_output(runtime_dir: Path) -> tuple[int, Path] | None:
    """The number and the output of the newest attempt on this machine, or None."""
    found = []
    for path in runtime_dir.glob("attempt-*/output.log"):
        match = _ATTEMPT.fullmatch(path.parent.name)
        if match:
            found.append((int(match[1]), path))
    return max(found, default=None)


def tail_of(path: Path, most: int = TAIL_BYTES) -> bytes:
    """The last ``most`` bytes of a file, from the first whole line on. Raises OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - most))
        body = file.read(most)
    if size > len(body):
        body = body[body.find(b"\n") + 1 :]
    return body.lstrip(b"\0")


class Tails:
    """The logs of one job, written by its replicator. Any thread."""

    def __init__(self, backend: Backend, job: str, machine: str, runtime_dir: Path) -> None:
        self._backend = backend
        self._job = job
        self._machine = machine
        self._runtime = runtime_dir
        self._last: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def upload(self) -> None:
        """Bring the newest attempt's tail to the store, if it grew. Raises StoreError, OSError."""
        with self._lock:
            newest = newest_output(self._runtime)
            if newest is not None:
                self._upload(*newest)

    def _upload(self, attempt: int, path: Path) -> None:
        mark = (attempt, path.stat().st_size)
        if mark == self._last:
            return
        self._backend.put_bytes(log_key(self._job, attempt, self._machine), tail_of(path))
        self._last = mark
        self._trim()

    def _trim(self) -> None:
        old = stored(self._backend, self._job)[:-_KEPT]
        if old:
            self._backend.delete([key for _, _, key in old])


def stored(backend: Backend, job: str) -> list[tuple[int, str, str]]:
    """(attempt, machine, key) of every log in the store, oldest attempt first."""
    found = []
    for info in backend.objects(f"{job}/logs"):
        match = _NAME.fullmatch(info.key.rpartition("/")[2])
        if match:
            found.append((int(match["attempt"]), match["machine"], info.key))
    return sorted(found)


def read_log(backend: Backend, job: str, attempt: int | None) -> tuple[int, str, bytes]:
    """(attempt, machine, bytes) of a log in the store; None: of the newest attempt.

    Raises JobError when there is none.
    """
    logs = stored(backend, job)
    wanted = [each for each in logs if attempt is None or each[0] == attempt]
    if not wanted:
        have = ", ".join(str(number) for number, _, _ in logs) or "none"
        which = "" if attempt is None else f" of attempt {attempt}"
        raise JobError(
            f"no output{which} of {job} in the store",
            where=f"{backend.url}/{job}/logs",
            remedy=f"attempts with output there: {have}",
        )
    number, machine, key = wanted[-1]
    body = bytearray()
    with contextlib.suppress(KeyError):  # trimmed a moment ago
        for chunk in backend.read(key):
            body += chunk[: TAIL_BYTES * 4 - len(body)]
    return number, machine, bytes(body)
