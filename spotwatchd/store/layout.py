"""Where a job's things are in a store."""

from __future__ import annotations

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import MANIFEST, REMOVED


def spec_key(job: str) -> str:
    """What to run."""
    return f"{job}/spec.json"


def lease_key(job: str) -> str:
    """Who may run it."""
    return f"{job}/lease.json"


def head_key(job: str) -> str:
    """What is committed."""
    return f"{job}/head.json"


def code_key(job: str, sha256: str) -> str:
    """The code it runs, named by its digest."""
    return f"{job}/code/{sha256}.tar.gz"


def checkpoints_prefix(job: str) -> str:
    """All checkpoints."""
    return f"{job}/checkpoints"


def checkpoint_prefix(job: str, checkpoint: CheckpointId) -> str:
    """One checkpoint."""
    return f"{job}/checkpoints/{checkpoint}"


def file_key(job: str, checkpoint: CheckpointId, path: str) -> str:
    """One file of a checkpoint."""
    return f"{job}/checkpoints/{checkpoint}/{path}"


def manifest_key(job: str, checkpoint: CheckpointId) -> str:
    """Its manifest."""
    return file_key(job, checkpoint, MANIFEST)


def removed_key(job: str, checkpoint: CheckpointId) -> str:
    """The mark of a deletion that has begun (store/sweep.py)."""
    return file_key(job, checkpoint, REMOVED)
