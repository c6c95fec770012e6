"""Checkpoints on the local disk: written under a hidden name, sealed by a rename.

At every instant a directory ``step-NNN`` is either absent or complete and on the disk,
whatever kills the process: files are flushed, then their directories, then the rename
makes the name, then the parent is flushed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from spotwatchd.errors import JobError
from spotwatchd.wire.seal import TEMPORARY_PREFIX, sealed_name, step_of

# A draft that nobody has touched for this long and whose writer is gone is rubbish. The age
# covers the instant between a writer's mkdir and its lock.
_ABANDONED_AFTER = 60.0


class Draft:
    """A checkpoint that is being written. The lock on it says that its writer lives."""

    def __init__(self, directory: Path, step: int) -> None:
        """Make the temporary directory. Raises OSError if the disk does not let us."""
        directory.mkdir(parents=True, exist_ok=True)
        nonce = f"{os.getpid()}-{time.time_ns():x}"
        self.step = step
        self.path = directory / f"{TEMPORARY_PREFIX}{sealed_name(step)}-{nonce}"
        self.path.mkdir()
        self._lock: int | None = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _try_lock(self._lock)

    def seal(self) -> Path:
        """Flush everything and give it its name. A directory of that name is replaced."""
        flush_tree(self.path)
        target = self.path.with_name(sealed_name(self.step))
        old = self._set_aside(target)
        self.path.rename(target)
        flush(self.path.parent)
        self._unlock()
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def discard(self) -> None:
        """Remove what was written. Harmless after seal() or a second time."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _set_aside(self, target: Path) -> Path | None:
        if not target.exists():
            return None
        old = self.path.with_name(f"{self.path.name}-old")
        target.rename(old)
        return old


def flush(path: Path) -> None:
    """Put a file's bytes, or a directory's names, on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def flush_tree(root: Path) -> None:
    """Flush all files below ``root``, then the directories, innermost first."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                flush(path)
        flush(Path(folder))


def mark_of(sealed: Path) -> str:
    """What tells two contents of one name apart: inode and mtime_ns."""
    status = sealed.stat()
    return f"{status.st_ino}-{status.st_mtime_ns}"


def newest(directory: Path) -> Path | None:
    """The sealed checkpoint of the highest step, or None."""
    try:
        found = [(step_of(entry.name), entry) for entry in directory.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return None
    sealed = [(step, entry) for step, entry in found if step is not None]
    return max(sealed)[1] if sealed else None


def sweep(directory: Path) -> None:
    """Remove drafts whose writer was killed. Never raises: it is housekeeping."""
    try:
        drafts = list(directory.glob(f"{TEMPORARY_PREFIX}*"))
    except OSError:
        return
    for draft in drafts:
        _remove_if_abandoned(draft)


def _remove_if_abandoned(draft: Path) -> None:
    try:
        if time.time() - draft.stat().st_mtime < _ABANDONED_AFTER:
            return
        fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if _try_lock(fd):
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by its writer, or a file system without locks: leave it alone
        return False
    return True


def require_step(step: int) -> int:
    """``step`` as an int >= 0 (accepts what has ``__index__``). Raises JobError otherwise."""
    try:
        number = step.__index__()
    except AttributeError:
        number = -1
    if number < 0:
        raise JobError(f"{step!r} is not a step", where="checkpoint(step)", remedy="0, 1, 2, ...")
    return number
