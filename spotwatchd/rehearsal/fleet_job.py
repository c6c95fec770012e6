"""A training that only tells where it runs and what it was given, a line per step.

python fleet_job.py LOG STEPS STEP_SECONDS
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from spotwatchd.client import Job, connect


def _note(log: str, job: Job, step: int, word: str) -> None:
    """One line in one write: attempts on several machines share the file."""
    # ROOT/MACHINE/disk/JOB: a machine that is rehearsed is a directory.
    machine = Path(os.environ["SPOTWATCH_CHECKPOINT_DIR"]).parent.parent.name
    line = {
        "job": os.environ["SPOTWATCH_JOB"],
        "machine": machine,
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "attempt": job.attempt,
        "pid": os.getpid(),
        "step": step,
        "word": word,
        "t": time.clock_gettime(time.CLOCK_BOOTTIME),
    }
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, f"{json.dumps(line)}\n".encode())
    os.close(fd)


def _save(job: Job, step: int) -> None:
    with job.checkpoint(step) as path:
        (path / "step").write_text(str(step))


def main() -> int:
    """Count to STEPS, from where the newest checkpoint says."""
    log, steps, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    job = connect()
    found = job.latest()
    step = int((found / "step").read_text()) if found else 0
    _note(log, job, step, "starts")
    while step < steps:
        time.sleep(pause)
        step += 1
        _note(log, job, step, "step")
        if job.should_checkpoint():
            leave = job.ask is not None and job.ask.leave
            _save(job, step)
            if leave:
                _note(log, job, step, "leaves")
                return 75
    _save(job, step)
    _note(log, job, step, "ends")
    job.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
