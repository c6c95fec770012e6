"""What a program is told when an attempt of its job begins, whoever starts it."""

from __future__ import annotations

import re
import signal

_SECRET = re.compile("TOKEN|SECRET|KEY|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def looks_secret(text: str) -> bool:
    """Whether a variable's name, or a word of a command, says that it is not for others."""
    return _SECRET.search(text) is not None


def ask_signal(name: str | None, pattern: str | None) -> int | None:
    """The signal that tells a job's program of an interruption, or None.

    Programs without the client (``pattern``, of their checkpoints, says so) get SIGTERM unless
    they chose another one (``name``): it is what a machine that goes down sends anyway.
    """
    if name:
        return int(signal.Signals[name])
    return int(signal.SIGTERM) if pattern else None


def environment(  # noqa: PLR0913 - settings, passed by name
    *,
    socket: str,
    job: str,
    checkpoint_dir: str,
    attempt: int,
    step: int | None,
    resume_from: str | None,
    cause: str,
    run_id: str,
) -> dict[str, str]:
    """The variables of an attempt; ``step`` and ``resume_from``: None where it begins anew."""
    return {
        "SPOTWATCH_SOCKET": socket,
        "SPOTWATCH_JOB": job,
        "SPOTWATCH_CHECKPOINT_DIR": checkpoint_dir,
        "SPOTWATCH_ATTEMPT": str(attempt),
        "SPOTWATCH_RESUME_STEP": "" if step is None else str(step),
        "SPOTWATCH_RESUME_FROM": resume_from or "",
        "SPOTWATCH_CAUSE": cause,
        "SPOTWATCH_RUN_ID": run_id,
    }
