"""What a training process imports. Standard library only.

    from spotwatchd.client import connect

    job = connect("resnet", "checkpoints/resnet")
    if job.should_checkpoint():
        with job.checkpoint(step) as path:
            save(path / "state.pt")

Nothing here starts a thread, raises because of the daemon, or waits longer than
0.2 s for it; without a daemon the same code saves to the local directory.
"""

from __future__ import annotations

from spotwatchd.client.job import Job, connect
from spotwatchd.wire.board import Ask

__all__ = ["Ask", "Job", "connect"]
