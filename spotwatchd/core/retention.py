"""Which checkpoints are kept, which one a job is resumed from, and what may be deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spotwatchd.core.head import Head, Listed, Quarantined
from spotwatchd.core.ids import CheckpointId

# After this many crashes in a row without a new step the checkpoint itself is suspected.
CRASHES_PER_CHECKPOINT = 3
# The newest committed checkpoint, and one more in case it does not load.
LOCAL_COMMITTED = 2


@dataclass(frozen=True)
class Retention:
    """Which committed checkpoints stay.

    Attributes:
        last: the newest so many, at least 1.
        every: and those whose sequence number is a multiple of this (0: none).
    """

    last: int = 3
    every: int = 0

    def keeps(self, checkpoints: tuple[Listed, ...]) -> tuple[Listed, ...]:
        """Those of ``checkpoints`` (oldest first) that stay listed."""
        recent = len(checkpoints) - max(1, self.last)
        return tuple(
            entry
            for index, entry in enumerate(checkpoints)
            if index >= recent or (self.every > 0 and entry.id.sequence % self.every == 0)
        )

    def holds(
        self, quarantine: tuple[Quarantined, ...], kept: tuple[Listed, ...]
    ) -> tuple[Quarantined, ...]:
        """Those bad ones that stay for a person to look at: until all that is listed is newer."""
        oldest = kept[0].id if kept else None
        return tuple(entry for entry in quarantine if oldest is None or entry.id > oldest)


def candidates(head: Head) -> list[Listed]:
    """What a job may be resumed from, best first: newest commit first, never by step.

    Quarantined ones are left out. The newest ones from which the job crashed again and again
    without a new step move to the end: they are worse than older ones and better than nothing.
    """
    bad = {entry.id for entry in head.quarantine}
    good = [entry for entry in reversed(head.checkpoints) if entry.id not in bad]
    suspect = min(head.crashes // CRASHES_PER_CHECKPOINT, max(0, len(good) - 1))
    return good[suspect:] + good[:suspect]


def unlisted(
    stored: Iterable[CheckpointId], head: Head, *, in_progress: frozenset[CheckpointId]
) -> set[CheckpointId]:
    """Those of ``stored`` that nobody can want again.

    Not those that head lists or holds in quarantine (or of a run before), not those of a
    generation above head's (somebody else's future), not those that this owner is writing.
    """
    wanted = {entry.id for entry in head.checkpoints} | {entry.id for entry in head.quarantine}
    return {
        found
        for found in stored
        if found not in wanted and found not in in_progress and found.generation <= head.generation
        if all(found != entry.id for entry in head.retired)
    }


def ripe(first_seen: Mapping[CheckpointId, float], now: float, grace: float) -> list[CheckpointId]:
    """The unlisted ones that have been so for ``grace`` seconds, oldest first."""
    return sorted(found for found, since in first_seen.items() if now - since >= grace)


@dataclass(frozen=True)
class LocalCopy:
    """A checkpoint on local disk. ``committed``: the store has it too."""

    path: str
    committed: bool


def local_surplus(copies: Sequence[LocalCopy], *, disk_full: bool) -> list[str]:
    """The paths to delete, oldest first, of ``copies`` in the order they were sealed.

    What is not committed always stays: it exists nowhere else.
    """
    committed = [copy.path for copy in copies if copy.committed]
    keep = 1 if disk_full else LOCAL_COMMITTED
    return committed[: max(0, len(committed) - keep)]
