"""How a checkpoint directory is named, so that every party recognises a seal.

A checkpoint is a directory ``step-000000000040`` below the job's checkpoint
directory. It is written under a hidden temporary name and renamed into place: the
rename is the seal. Names that do not match are somebody else's and left alone.
"""

from __future__ import annotations

import re

_SEALED = re.compile(r"^step-(\d{12,})$")
TEMPORARY_PREFIX = ".saving-"
RESTORING_PREFIX = ".restoring-"


def sealed_name(step: int) -> str:
    """The directory name of the checkpoint of ``step``."""
    return f"step-{step:012d}"


def step_of(name: str) -> int | None:
    """The step that a directory name stands for, or None when it is not a checkpoint."""
    match = _SEALED.match(name)
    return int(match.group(1)) if match else None
