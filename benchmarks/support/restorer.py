"""A warm process that restores what it is told to.

    python -m benchmarks.support.restorer JOB_FILE CHECKPOINT_ID

Reads one directory per line, restores the checkpoint into it and answers with
``{"seconds", "cpu", "rss"}``: manifest, download, verification, names.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from benchmarks.support.committer import cpu_so_far
from benchmarks.support.measure import forget_peak, peak_of
from spotwatchd.core.ids import CheckpointId
from spotwatchd.store.job_file import read_job_file
from spotwatchd.store.open import open_backend
from spotwatchd.store.restore import restore


def main() -> int:
    """See the head of this file."""
    job = read_job_file(Path(sys.argv[1]))
    checkpoint = CheckpointId.find(sys.argv[2])
    assert checkpoint is not None  # noqa: S101 - the committer's own answer
    backend = open_backend(job.store)
    list(backend.children(""))  # a connection stands, code is loaded
    print("ready", flush=True)
    for line in sys.stdin:
        forget_peak(os.getpid())
        cpu, began = cpu_so_far(), time.monotonic()
        restore(backend, job.name, checkpoint, Path(line.strip()))
        seconds = time.monotonic() - began
        took = {"seconds": seconds, "cpu": cpu_so_far() - cpu, "rss": peak_of(os.getpid())}
        print(json.dumps(took), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
