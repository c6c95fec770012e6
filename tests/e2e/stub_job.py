"""A training in a hundred lines less: counts, saves through the client, tells what it did.

python stub_job.py LOG STEPS STEP_SECONDS SAVE_SECONDS KILOBYTES
"""

from __future__ import annotations

import json
import os
import sys
import time

from spotwatchd.client import Job, connect

LOG, STEPS, STEP, SAVE, SIZE = sys.argv[1:6]


def note(**what: object) -> None:
    """Append a line to the log in one write."""
    line = json.dumps({"pid": os.getpid(), "t": time.time(), **what}) + "\n"
    fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, line.encode())
    os.close(fd)


def save(job: Job, step: int) -> None:
    """Write the state: the step, and ballast that depends on it."""
    with job.checkpoint(step) as path:
        (path / "state.json").write_text(json.dumps({"step": step}))
        (path / "ballast.bin").write_bytes(step.to_bytes(8, "little") * (int(SIZE) * 128))
        time.sleep(float(SAVE))


def main() -> int:
    """Count up to STEPS, from where the newest checkpoint says."""
    # By hand it names itself; under a daemon the environment does.
    job = connect(os.environ.get("STUB_NAME"), os.environ.get("STUB_DIR"))
    found = job.latest()
    step = json.loads((found / "state.json").read_text())["step"] if found else 0
    note(resumed=step, attempt=job.attempt, cause=job.cause)
    while step < int(STEPS):
        time.sleep(float(STEP))
        step += 1
        note(step=step)
        if step == 1 or (found and step == (job.resume_step or 0) + 1):
            job.progress(step)
        if job.should_checkpoint():
            ask = job.ask
            save(job, step)
            if ask is not None and ask.leave:
                return 75
    save(job, step)
    job.finish()
    note(finished=step)
    return 0


if __name__ == "__main__":
    sys.exit(main())
