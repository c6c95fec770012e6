"""A process that owns a job and commits what it is told to, as the replicator's worker does.

    python -m benchmarks.support.committer JOB_FILE

Reads one JSON object per line, ``{"path", "step", "mark"}``, and answers each with
``{"id", "seconds", "cpu", "rss"}`` of that commit alone: files, manifest and head, all verified.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from benchmarks.support.measure import cpu_of, family, forget_peak, peak_of
from spotwatchd.core.words import Seal
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.custody import Custody
from spotwatchd.store.job_file import read_job_file
from spotwatchd.store.open import open_backend
from spotwatchd.store.patience import Patience


class Aloud:
    """Alarms go to stderr: a benchmark that had one measured something else."""

    def alarm(self, error: SpotwatchError) -> None:
        """See resuming.Tell."""
        print(f"committer: {error}", file=sys.stderr)

    def said(self, line: str) -> None:
        """See resuming.Tell."""


def cpu_so_far() -> float:
    """CPU seconds: to the microsecond for this process, to the tick for its children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = sum(cpu_of(pid) for pid in family(os.getpid())[1:])
    return own.ru_utime + own.ru_stime + children


def _commit(custody: Custody, seal: Seal) -> dict[str, str | float]:
    forget_peak(os.getpid())
    cpu, began = cpu_so_far(), time.monotonic()
    checkpoint = custody.commit(seal, "periodic", None, Patience())
    seconds = time.monotonic() - began
    took = {"seconds": seconds, "cpu": cpu_so_far() - cpu, "rss": peak_of(os.getpid())}
    return {"id": checkpoint, **took}


def main() -> int:
    """Take the job, then commit."""
    job = read_job_file(Path(sys.argv[1]))
    custody = Custody(job, open_backend(job.store), Aloud())
    custody.take(Patience(), lambda _: None)
    print("ready", flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        print(json.dumps(_commit(custody, Seal(told["path"], told["step"], told["mark"]))))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
