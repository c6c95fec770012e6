"""Files that are on disk when a call returns: temporary name, fsync, rename or link.

Knows nothing of stores. Everything raises OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from spotwatchd.store.keys import RESERVED_PREFIX

TEMPORARY_PREFIX = f"{RESERVED_PREFIX}tmp-"
# A temporary file this old belongs to a machine that died. A day outlasts every upload
# and every difference between two machines' clocks that anybody would leave unmended.
STALE_SECONDS = 86_400.0
# mkdir and open race with the removal of empty folders; each lost round is one deletion.
_ROUNDS = 20


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: Path, root: Path) -> None:
    """Create ``path`` and what is missing between it and ``root``, durably.

    ``root`` itself is never created: a missing one may be a disk that is not mounted.
    """
    if path == root or path.is_dir():
        return
    make_directories(path.parent, root)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    sync_directory(path.parent)


@contextlib.contextmanager
def temporary(directory: Path, root: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in ``directory`` (created if need be), gone at the end of the block."""
    file, path = _create(directory, root)
    try:
        with file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _create(directory: Path, root: Path) -> tuple[BinaryIO, Path]:
    path = directory / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    for _ in range(_ROUNDS):
        with contextlib.suppress(FileNotFoundError):
            make_directories(directory, root)
            return path.open("xb", buffering=0), path
    raise FileNotFoundError(f"{directory} is removed again and again")


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write every byte: an unbuffered file may take fewer than it was given."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def finish(file: BinaryIO, size: int) -> None:
    """Wait until the file is on disk, then check that all of it is there."""
    file.flush()
    os.fsync(file.fileno())
    if os.fstat(file.fileno()).st_size != size:
        raise OSError(f"{file.name} is not {size} bytes long after fsync")


def link_new(temporary_path: Path, target: Path) -> bool:
    """Give a finished file its name unless that is taken. Returns whether it was free.

    An NFS client that must repeat a request can report that a link exists which it made
    itself, so on every error the target is compared with the file.
    """
    try:
        os.link(temporary_path, target)
    except OSError as error:
        if not _is_same_file(temporary_path, target):
            if isinstance(error, FileExistsError):
                return False
            raise
    sync_directory(target.parent)
    return True


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def replace(temporary_path: Path, target: Path) -> None:
    """Give a finished file its name, durably."""
    temporary_path.replace(target)
    sync_directory(target.parent)


def remove_stale_temporaries(directory: Path) -> None:
    """Delete what dead writers left behind in one directory."""
    oldest = time.time() - STALE_SECONDS
    for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
