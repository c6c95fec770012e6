"""Which checkpoint to start from, and who says so."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from spotwatchd.client.identity import Resume, resume_from_environment
from spotwatchd.client.line import within
from spotwatchd.client.registration import Registration, Standing
from spotwatchd.client.seals import newest
from spotwatchd.wire.seal import step_of

_POLL = 0.25
# A daemon that restarts is back within a second or two; longer silence is absence.
_PATIENCE = 5.0


def find_resume(registration: Registration) -> Resume:
    """Settle it: launcher, else daemon (waiting while it restores), else the local disk."""
    told = resume_from_environment()
    if "SPOTWATCH_RESUME_FROM" in os.environ and (told.path is None or told.path.is_dir()):
        return told
    standing = _restored(registration)
    if standing is not None:
        return _from_answer(standing.document, registration.identity.checkpoint_dir)
    return _from_disk(registration.identity.checkpoint_dir, told)


def _restored(registration: Registration) -> Standing | None:
    """The daemon's word once it has restored; None when there is no daemon, or not any more."""
    standing, heard = registration.standing, time.monotonic()
    if standing is None or not standing.restoring:
        return standing
    registration.tell(f"{registration.identity.name} waits for its checkpoint to be restored")
    while standing is None or standing.restoring:
        if time.monotonic() - heard > _PATIENCE:
            return None
        time.sleep(_POLL)
        standing = registration.register(within())
        if standing is not None:
            heard = time.monotonic()
    return standing


def _from_answer(answer: dict[str, Any], directory: Path) -> Resume:
    path, step = answer.get("resume_from"), answer.get("resume_step")
    return Resume(
        attempt=int(answer.get("attempt") or 1),
        path=directory / path if path else None,  # in a container it is told relative to that
        step=int(step) if step is not None else None,
        cause=str(answer.get("cause") or "first"),
        run_id=str(answer.get("run_id") or ""),
    )


def _from_disk(directory: Path, told: Resume) -> Resume:
    path = newest(directory)
    cause = told.cause if path is None or told.cause != "first" else "restart"
    step = None if path is None else step_of(path.name)
    return Resume(told.attempt, path, step, cause, told.run_id)
