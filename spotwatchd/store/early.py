"""What was sent of a checkpoint before its seal: which parts of which files.

Nothing here is visible to anybody: parts of uploads that are not finished. The seal either
takes them over (shipping.py sums every part again and sends what changed) or they go.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.core.ids import CheckpointId
from spotwatchd.errors import Damaged
from spotwatchd.store.base import Backend, Part, Piece
from spotwatchd.store.drafts import Draft, GrowingFile, Identity
from spotwatchd.store.layout import file_key
from spotwatchd.store.patience import Patience
from spotwatchd.store.swap import boottime

# A file that stands still for so long is probably complete: its last, short part may go.
QUIET_SECONDS = 0.3
# Below this a file is one small request at the seal, and one part would cost three.
SMALLEST = 1 << 20


@dataclass
class EarlyFile:
    """A growing file and its upload. Changed under the follower's lock.

    Attributes:
        found: as it was seen last.
        since: when it was seen to change last, CLOCK_BOOTTIME.
        sent: number -> what the store has.
        going: number -> size of the parts that are being sent.
        tail: number of the last, short part that was sent, or 0: it is tried once a number.
        rests_until: after a failure nothing is tried before this.
    """

    job: str
    checkpoint: CheckpointId
    found: GrowingFile
    since: float
    upload: str = ""
    sent: dict[int, Part] = field(default_factory=dict)
    going: dict[int, int] = field(default_factory=dict)
    tail: int = 0
    rests_until: float = 0.0

    @property
    def key(self) -> str:
        """Where it will be in the store."""
        return file_key(self.job, self.checkpoint, self.found.name)

    @property
    def bytes_sent(self) -> int:
        """Bytes that the store has."""
        return sum(part.size for part in self.sent.values())

    def see(self, found: GrowingFile) -> None:
        """A later look at the same file."""
        if (found.size, found.touched) != (self.found.size, self.found.touched):
            self.since = boottime()
        self.found = found

    def next_part(self, part_size: int) -> tuple[int, int] | None:
        """Number and size of a part worth sending now.

        One part of slack: programs write the end of a file in pieces, and headers at last.
        """
        now, size = boottime(), self.found.size
        quiet = now - self.since >= QUIET_SECONDS
        whole = size // part_size if quiet else size // part_size - 1
        if now < self.rests_until or size < SMALLEST:
            return None
        for number in range(1, whole + 1):
            if number not in self.going and self._size_of(number) != part_size:
                return number, part_size
        rest, number = size % part_size, size // part_size + 1
        if quiet and rest and self.tail < number and number not in self.going:
            self.tail = number
            return number, rest
        return None

    def _size_of(self, number: int) -> int:
        part = self.sent.get(number)
        return part.size if part else 0


@dataclass
class EarlyCheckpoint:
    """A draft that is followed. Changed under the follower's lock.

    Attributes:
        path: as people are told, relative to the checkpoint directory.
        seen_at: when it was last found where drafts are.
        closed: the seal has taken it over, or it was given up: nothing new is sent.
    """

    checkpoint: CheckpointId
    identity: Identity
    path: str
    seen_at: float
    files: dict[Identity, EarlyFile] = field(default_factory=dict)
    closed: bool = False
    told_at: float = float("-inf")

    def see(self, draft: Draft, job: str) -> None:
        """A later look at the same checkpoint."""
        now = boottime()
        self.seen_at, self.path = now, draft.path
        for found in draft.files:
            known = self.files.get(found.identity)
            if known is None:
                self.files[found.identity] = EarlyFile(job, self.checkpoint, found, now)
            elif known.upload and known.found.name != found.name:
                continue  # its key is fixed: if the new name stays, the seal will not want it
            else:
                known.see(found)

    @property
    def bytes_sent(self) -> int:
        """Bytes that the store has."""
        return sum(file.bytes_sent for file in self.files.values())

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return sum(file.found.size for file in self.files.values())

    @property
    def going(self) -> bool:
        """Whether some part is being sent."""
        return any(file.going for file in self.files.values())


def send(backend: Backend, file: EarlyFile, number: int, size: int, limits: Patience) -> Part:
    """Send one part of a growing file; begins its upload if need be.

    Raises Damaged when the file is not there any more, or has a hole where the part is: it
    was made as long as it will be, and this stretch is not written yet.
    """
    path, offset = file.found.path, (number - 1) * backend.part_size
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise _changed(path) from error
    try:
        now = os.fstat(opened)
        same = (now.st_dev, now.st_ino) == file.found.identity
        if not same or _has_hole(opened, offset, size):
            raise _changed(path)
        piece = Piece(opened, path, offset, size)
        return backend.send_part(file.key, file.upload, number, piece, limits)
    finally:
        os.close(opened)


def _changed(path: Path) -> Damaged:
    return Damaged("the file is not as it was seen", where=str(path))


def _has_hole(file: int, offset: int, size: int) -> bool:
    try:
        return os.lseek(file, offset, os.SEEK_HOLE) < offset + size
    except OSError:
        return True
