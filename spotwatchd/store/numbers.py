"""The ids of checkpoints: in the order of their commits, though some are chosen early.

A checkpoint that is followed while it is written needs its id before anybody knows when it
will be sealed. What is committed meanwhile needs a lower one, so a reservation leaves a few
numbers free below it.
"""

from __future__ import annotations

import threading

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Tenure
from spotwatchd.store.memory import Memory

# Uploads that may begin (also again, after a failure) while a checkpoint is being written.
# More of them cost the head start of that checkpoint and nothing else.
_FREE_BELOW = 16


class Numbers:
    """Any thread. Everything may raise OSError: what is given out is remembered first."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._reserved: dict[CheckpointId, list[int]] = {}
        self._used: frozenset[CheckpointId] = frozenset()
        self._last = 0

    def begin(self) -> None:
        """Another tenure."""
        with self._lock:
            self._reserved.clear()
            self._used = frozenset()
            self._last = 0

    def in_use(self) -> frozenset[CheckpointId]:
        """All that may yet be committed."""
        with self._lock:
            return self._used | frozenset(self._reserved)

    def next(self, tenure: Tenure, step: int) -> CheckpointId:
        """The id of a checkpoint that is uploaded now."""
        with self._lock:
            return self._use(CheckpointId(tenure.generation, self._next(), step))

    def _next(self) -> int:
        for free in self._reserved.values():
            while free:
                number = free.pop(0)
                if number > self._last:
                    return number
        return self._memory.next_sequence()

    def _use(self, checkpoint: CheckpointId) -> CheckpointId:
        self._last = max(self._last, checkpoint.sequence)
        self._used |= {checkpoint}
        return checkpoint

    def reserve(self, tenure: Tenure, step: int) -> CheckpointId:
        """The id of a checkpoint that will be uploaded after some others."""
        with self._lock:
            number = self._memory.next_sequence(_FREE_BELOW + 1)
            checkpoint = CheckpointId(tenure.generation, number, step)
            self._reserved[checkpoint] = list(range(number - _FREE_BELOW, number))
            return checkpoint

    def unreserve(self, checkpoint: CheckpointId) -> None:
        """It will not be used."""
        with self._lock:
            self._reserved.pop(checkpoint, None)

    def use(self, checkpoint: CheckpointId) -> bool:
        """Upload under a reserved id; False: it would be out of order, or is not reserved."""
        with self._lock:
            if checkpoint not in self._reserved or checkpoint.sequence <= self._last:
                return False
            del self._reserved[checkpoint]
            self._use(checkpoint)
            return True

    def give_up(self, checkpoint: CheckpointId) -> None:
        """No head will ever list it."""
        with self._lock:
            self._used -= {checkpoint}

    def settled(self) -> None:
        """A swap of head succeeded: what was used is listed, or never will be."""
        with self._lock:
            self._used = frozenset()
