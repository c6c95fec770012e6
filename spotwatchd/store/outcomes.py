"""What came of a take and of an upload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import StoredFile
from spotwatchd.core.words import Seal


@dataclass(frozen=True)
class Taken:
    """The answer to a take.

    Attributes:
        restored: what the job goes on from, in its place; None: from the beginning.
        uncommitted: ``restored`` is not in the store yet.
        attempts, crashes, interruption: from head.
        previous: the machine that had the job before, when that was another one.
        unannounced: it never wrote that it was interrupted: it died, or cannot reach the store.
        ended: how the job ended; then it is not taken, and nothing is held.
        spec: the fields of the store's newer spec, when that is to be run.
    """

    generation: int
    restored: Seal | None
    attempts: int
    crashes: int
    interruption: dict[str, Any] | None
    ended: str = ""
    previous: str | None = None
    unannounced: bool = False
    uncommitted: bool = False
    spec: dict[str, Any] | None = None


@dataclass(frozen=True)
class Upload:
    """A checkpoint whose bytes the store has acknowledged.

    Attributes:
        base: the listed checkpoint through which the objects of earlier ones were found that
            this one refers to; None: it refers to none.
        sent: bytes that left this machine for it, before its seal and after.
    """

    id: CheckpointId
    form: str
    files: tuple[StoredFile, ...]
    seconds: float
    base: CheckpointId | None = None
    sent: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)
