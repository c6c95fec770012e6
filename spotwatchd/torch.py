"""PyTorch: resume where the run was interrupted, bit for bit. Needs the extra ``torch``.

    from spotwatchd.torch import Checkpointer

    ckpt = Checkpointer(model=model, optimizer=optimizer)
    batches = ckpt.batches(loader)
    for step in ckpt.steps(total):
        train(next(batches))
    export(model)                      # reached only when really done

The rules are in docs/client.md.
"""

from __future__ import annotations

from spotwatchd._torch.batches import Batches, ReplayWarning
from spotwatchd._torch.checkpointer import Checkpointer, Preempted

__all__ = ["Batches", "Checkpointer", "Preempted", "ReplayWarning"]
