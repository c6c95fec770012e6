"""The notice board: how a training process learns of an ask without a system call.

One file per job, mapped read-only by its processes. The daemon writes it; nobody
ever truncates, replaces or unlinks it while the job lives, because a mapping of a
shortened file kills its reader (SIGBUS) and a replaced one leaves it deaf.

Layout, little endian, 128 bytes, every field 8-byte aligned:

    word  0   magic "SPOTWD01"
    word  1   the ask number: 0 = never asked; grows by one per ask. THE word to poll.
    word  2   the highest ask number that was withdrawn (un-drained) or answered
    word  3   reserved
    words 4-7    slot of even asks: deadline, cause, action, reserved
    words 8-11   slot of odd asks:  the same

A slot is written before the ask number that points to it, each as one aligned
8-byte store, so a reader that sees the number sees the slot. ``deadline`` is a
float64 in seconds of CLOCK_BOOTTIME, or 0.0 for none.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

SIZE = 128
MAGIC = int.from_bytes(b"SPOTWD01", "little")
_ASK, _WITHDRAWN = 1, 2
_SLOT_WORDS = 4

CAUSES = ("none", "notice", "hint", "periodic", "request", "stop")
ACTIONS = ("none", "terminate", "stop", "hibernate", "reboot")


@dataclass(frozen=True)
class Ask:
    """A request to save, as the board tells it.

    Attributes:
        number: 1, 2, 3 ... over the life of the job on this machine.
        deadline: CLOCK_BOOTTIME seconds, or None when there is no hurry.
        cause: one of ``CAUSES``.
        action: what happens to the machine, one of ``ACTIONS``.
    """

    number: int
    deadline: float | None
    cause: str
    action: str

    @property
    def leave(self) -> bool:
        """True when the process should stop after saving, not go on training."""
        return self.cause in ("notice", "stop")

    def seconds_left(self) -> float | None:
        """Seconds until the deadline (negative when past), or None without one."""
        if self.deadline is None:
            return None
        return self.deadline - time.clock_gettime(time.CLOCK_BOOTTIME)


def _float_bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def _bits_float(value: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", value))[0])


def _name(names: tuple[str, ...], index: int) -> str:
    return names[index] if index < len(names) else names[0]


class BoardReader:
    """A process's view of its job's board.

    ``number`` is the hot path: one index into mapped memory.
    """

    def __init__(self, path: str | Path) -> None:
        """Map the board at ``path``. Raises OSError or ValueError if it is not one."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != SIZE:
                raise ValueError(f"{path} is not a notice board: {os.fstat(fd).st_size} bytes")
            self._map = mmap.mmap(fd, SIZE, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self.words = memoryview(self._map).cast("Q")
        if self.words[0] != MAGIC:
            raise ValueError(f"{path} is not a notice board: wrong magic")

    def number(self) -> int:
        """The newest ask number, withdrawn or not."""
        return self.words[_ASK]

    def current(self) -> Ask | None:
        """The newest ask, or None when there is none or it was withdrawn or answered."""
        while True:
            number = self.words[_ASK]
            if number == 0 or self.words[_WITHDRAWN] >= number:
                return None
            base = _SLOT_WORDS * (1 + (number & 1))
            deadline, cause, action = self.words[base], self.words[base + 1], self.words[base + 2]
            if self.words[_ASK] != number:
                continue  # overtaken while reading: the slot may be of a later ask
            seconds = _bits_float(deadline)
            return Ask(number, seconds or None, _name(CAUSES, cause), _name(ACTIONS, action))

    def close(self) -> None:
        """Unmap."""
        self.words.release()
        self._map.close()


class BoardWriter:
    """The daemon's side. Opening an existing board keeps its numbers and its inode."""

    def __init__(self, path: Path, *, mode: int = 0o600) -> None:
        """Create or reopen the board at ``path``.

        Args:
            path: the file; its directory exists.
            mode: who may read it where its directory lets them.
        """
        if not path.exists():
            self._create(path, mode)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._map = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        self._words = memoryview(self._map).cast("Q")

    @staticmethod
    def _create(path: Path, mode: int) -> None:
        # Complete before it has its name: a reader never meets a short file.
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.write(fd, MAGIC.to_bytes(8, "little") + bytes(SIZE - 8))
            os.fchmod(fd, mode)  # the umask took its share
        finally:
            os.close(fd)
        temporary.rename(path)

    @property
    def number(self) -> int:
        """The newest ask number on the board."""
        return self._words[_ASK]

    def ask(self, number: int, *, deadline: float | None, cause: str, action: str) -> None:
        """Publish ask ``number`` (same number again: moves its deadline)."""
        base = _SLOT_WORDS * (1 + (number & 1))
        self._words[base + 1] = CAUSES.index(cause)
        self._words[base + 2] = ACTIONS.index(action)
        self._words[base] = _float_bits(deadline or 0.0)
        self._words[_ASK] = number

    def withdraw(self, number: int) -> None:
        """Take back every ask up to ``number``."""
        self._words[_WITHDRAWN] = number

    def close(self) -> None:
        """Unmap; the file stays for the processes that read it."""
        self._words.release()
        self._map.close()
