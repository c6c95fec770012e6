"""Who this process is: what the launcher put into the environment, else the arguments."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from spotwatchd.client.byhand import by_hand
from spotwatchd.errors import ConfigError
from spotwatchd.wire.paths import find_socket

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as control/bodies.py JobBody says


@dataclass(frozen=True)
class Identity:
    """What the process knows of itself before it has spoken to anybody.

    Attributes:
        name: the job's name.
        checkpoint_dir: absolute path.
        socket: the daemon's Unix socket.
        rank, world_size: this process among those of the job.
        launched: a daemon started this process (SPOTWATCH_JOB is set).
        announced: the daemon is to be told of the process (launched, or named by the caller).
        resume_command: how a person goes on with it elsewhere; None when nobody said.
    """

    name: str
    checkpoint_dir: Path
    socket: str
    rank: int
    world_size: int
    launched: bool
    announced: bool
    resume_command: str | None = None


@dataclass(frozen=True)
class Resume:
    """Where an attempt starts.

    Attributes:
        attempt: 1, 2, ...
        path: the verified checkpoint, or None to start from the beginning.
        step: its step, or None.
        cause: first, interruption, crash or restart.
        run_id: the same for all attempts of a run; "" when nobody keeps one.
    """

    attempt: int = 1
    path: Path | None = None
    step: int | None = None
    cause: str = "first"
    run_id: str = ""


def identify(
    name: str | None,
    checkpoint_dir: str | os.PathLike[str] | None,
    rank: int | None,
    world_size: int | None,
    socket: str | None,
) -> Identity:
    """Settle who this process is.

    What the launcher says wins over ``name`` and ``checkpoint_dir``: a script that names
    itself for the laptop must not register as a second job under ``spotwatch run --name``.

    Raises:
        ConfigError: the name cannot be a job's, or a rank is not a number.
    """
    launched = os.environ.get("SPOTWATCH_JOB")
    settled = launched or name or _script_name()
    if not _NAME.fullmatch(settled):
        raise ConfigError(
            f"{settled!r} cannot be the name of a job",
            where="connect(name=...)",
            remedy="1 to 64 of a-z A-Z 0-9 . _ -, starting with a letter or digit",
        )
    return Identity(
        name=settled,
        checkpoint_dir=_directory(settled, checkpoint_dir),
        socket=socket or find_socket(),
        rank=_number("RANK", 0) if rank is None else rank,
        world_size=_number("WORLD_SIZE", 1) if world_size is None else world_size,
        launched=bool(launched),
        announced=bool(launched or name),
        resume_command=by_hand(settled),
    )


def resume_from_environment() -> Resume:
    """What the launcher said in SPOTWATCH_ATTEMPT, _RESUME_FROM, _RESUME_STEP, _CAUSE, _RUN_ID."""
    path = os.environ.get("SPOTWATCH_RESUME_FROM")
    step = os.environ.get("SPOTWATCH_RESUME_STEP")
    return Resume(
        attempt=_number("SPOTWATCH_ATTEMPT", 1),
        path=Path(path) if path else None,
        step=int(step) if step else None,
        cause=os.environ.get("SPOTWATCH_CAUSE") or "first",
        run_id=os.environ.get("SPOTWATCH_RUN_ID", ""),
    )


def _directory(name: str, given: str | os.PathLike[str] | None) -> Path:
    chosen = os.environ.get("SPOTWATCH_CHECKPOINT_DIR") or given or Path("checkpoints") / name
    return Path(os.path.abspath(chosen))  # noqa: PTH100 - resolve() would follow a symlinked disk


def _script_name() -> str:
    stem = Path(sys.argv[0] if sys.argv else "").stem
    return re.sub(r"[^A-Za-z0-9._-]", "-", stem).lstrip("._-")[:64] or "training"


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a whole number", where=f"${variable}") from None
