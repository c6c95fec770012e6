"""What has arrived of a checkpoint: a hidden directory that outlives the process.

    .restoring-ID/log       which ranges have arrived, and their checksums
    .restoring-ID/files/    the checkpoint as it will be

A range is logged after its bytes were written, so a process that is killed leaves a log that
tells the truth: the kernel has what was written. A machine that dies leaves a log that may
know more than the disk does. Therefore the log says in which boot a range arrived, and one
from an earlier boot counts only once it was read again and has the checksum that it had.

Nothing is forced to disk here: what a dead machine had not written is fetched again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import Manifest, StoredFile
from spotwatchd.store.checksum import crc64nvme, to_hex16
from spotwatchd.store.ranges import local_sum
from spotwatchd.store.swap import new_nonce
from spotwatchd.wire.seal import RESTORING_PREFIX

_LOG = "log"
_FILES = "files"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_boot() -> str:
    """Changes exactly when the kernel forgets what it had not written. Raises OSError."""
    return _BOOT_ID.read_text().strip()


@dataclass(frozen=True)
class Arrived:
    """A range that the log knows.

    Attributes:
        sure: it arrived in this boot.
    """

    crc: int
    sure: bool


class Partial:
    """See the head of this file. Safe for threads but for ``close`` and ``remove``.

    Attributes:
        files: where the checkpoint's files are.
        known: (number of the file in the manifest, offset) -> what the log says of the range.
    """

    def __init__(self, directory: Path, manifest: Manifest, boot_id: str) -> None:
        """Go on with what is there, or begin. Raises OSError."""
        self._boot_id = boot_id
        self._of = _sum_of(manifest)
        self.root = place_of(directory, manifest.id)
        if not self._open():
            # Somebody else is at it, in another process: each does it alone.
            self.root = self.root.with_name(f"{self.root.name}-{new_nonce()[:8]}")
            self._open()
        self.files = self.root / _FILES
        self.known = self._read()
        self._begun = self._drop_absent(manifest)
        self._begin()

    def _open(self) -> bool:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(self.root):
            return False
        log = self.root / _LOG
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._log = os.open(log, flags, 0o600)
        if _lock(self._log) and _is_at(self._log, log):
            return True
        os.close(self._log)
        return False

    def _read(self) -> dict[tuple[int, int], Arrived]:
        known: dict[tuple[int, int], Arrived] = {}
        of = boot = ""
        with (self.root / _LOG).open(encoding="ascii", errors="replace") as log:
            for line in log:
                match line.split():
                    case ["manifest", value]:
                        of = value
                    case ["boot", value]:
                        boot = value
                    case ["range", number, offset, crc]:
                        _note(known, (number, offset, crc), sure=boot == self._boot_id)
                    case ["forget", number]:
                        _forget(known, number)
        return known if of == self._of else {}

    def _drop_absent(self, manifest: Manifest) -> set[int]:
        """Forget the ranges of files that are not there; returns the numbers of the others."""
        numbers = {number for number, _ in self.known}
        begun = {n for n in numbers if n < len(manifest.files) and self._has(manifest.files[n])}
        self.known = {key: value for key, value in self.known.items() if key[0] in begun}
        return begun

    def _has(self, entry: StoredFile) -> bool:
        try:
            found = (self.files / entry.path).lstat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == entry.size

    def _begin(self) -> None:
        if not self.known:
            shutil.rmtree(self.files, ignore_errors=True)
            os.truncate(self._log, 0)
        self.files.mkdir(exist_ok=True)
        # The line feed ends a line that a dying machine may have written by half.
        self._say(f"\nmanifest {self._of}\nboot {self._boot_id}")

    def _say(self, line: str) -> None:
        os.write(self._log, f"{line}\n".encode("ascii"))

    # ------------------------------------------------------------------ ranges

    def note(self, number: int, offset: int, crc: int) -> None:
        """The bytes of a range are written. Raises OSError."""
        self._say(f"range {number} {offset} {to_hex16(crc)}")

    def forget(self, number: int, entry: StoredFile) -> None:
        """What has arrived of a file is wrong. Raises OSError."""
        self._say(f"forget {number}")
        _forget(self.known, str(number))
        self._begun.discard(number)
        (self.files / entry.path).unlink(missing_ok=True)

    def find(self, number: int, entry: StoredFile, offset: int, size: int) -> int | None:
        """The checksum of a range that is here already, None when it must be fetched."""
        found = self.known.get((number, offset))
        if found is None or found.sure:
            return None if found is None else found.crc
        try:
            same = local_sum(self.files / entry.path, offset, size) == found.crc
        except OSError:
            return None
        if same:
            self.note(number, offset, found.crc)
        return found.crc if same else None

    def open_file(self, number: int, entry: StoredFile) -> int:
        """A descriptor of a file in the making, as long as it will be. Raises OSError.

        Its blocks are not reserved: runs of zeros stay holes, and whoever began has looked
        whether there is room for everything.
        """
        path = self.files / entry.path
        if "/" in entry.path:
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path) if number in self._begun else _made(path)
        os.ftruncate(descriptor, entry.size)
        return descriptor

    def allocated(self) -> int:
        """Bytes on disk that it has already."""
        found = 0
        for folder, _, names in os.walk(self.files):
            for name in names:
                with contextlib.suppress(OSError):
                    about = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - a million files
                    found += about.st_blocks * 512 if about.st_nlink == 1 else 0
        return found

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Let another process go on with it."""
        os.close(self._log)

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.root, ignore_errors=True)


def _sum_of(manifest: Manifest) -> str:
    """Tells manifests apart. Their own text is long, and was parsed before."""
    files = (f"{file.path}\0{file.size}\0{file.crc64nvme}" for file in manifest.files)
    return to_hex16(crc64nvme("\n".join((str(manifest.id), *files)).encode()))


def _opened(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o666)


def _made(path: Path) -> int:
    """A name without a past. What has it may be a link to a sealed checkpoint's file."""
    try:
        return _opened(path, os.O_EXCL)
    except FileExistsError:
        path.unlink()
        return _opened(path, os.O_EXCL)


def _note(
    known: dict[tuple[int, int], Arrived], words: tuple[str, str, str], *, sure: bool
) -> None:
    with contextlib.suppress(ValueError):
        number, offset, crc = int(words[0]), int(words[1]), int(words[2], 16)
        known[number, offset] = Arrived(crc, sure)


def _forget(known: dict[tuple[int, int], Arrived], number: str) -> None:
    for key in [key for key in known if str(key[0]) == number]:
        del known[key]


def _is_private(path: Path) -> bool:
    """Whether nobody else can have put anything there."""
    found = path.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return ours and not found.st_mode & 0o022


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def place_of(directory: Path, checkpoint: CheckpointId) -> Path:
    """Where a checkpoint arrives."""
    return directory / f"{RESTORING_PREFIX}{checkpoint}"


def aside(directory: Path, checkpoint: CheckpointId) -> Path:
    """Where a restored checkpoint goes that may have lost bytes (unsynced.py)."""
    return directory / f"{RESTORING_PREFIX}{checkpoint}.unsynced"


def clear(directory: Path, keep: CheckpointId | None = None) -> None:
    """Delete what is left of restores, but for that of the checkpoint ``keep``.

    What another process is working on stays.
    """
    kept = {place_of(directory, keep), aside(directory, keep)} if keep else set()
    for path in directory.glob(f"{RESTORING_PREFIX}*"):
        if path not in kept:
            _remove_unlocked(path)


def give_up(directory: Path, checkpoint: CheckpointId) -> None:
    """Delete what has arrived of a checkpoint that does not verify."""
    for path in directory.glob(f"{RESTORING_PREFIX}{checkpoint}*"):
        _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    try:
        log = os.open(path / _LOG, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        if _lock(log):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(log)
