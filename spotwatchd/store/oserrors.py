"""What the operating system's refusals mean for a store in a directory."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from spotwatchd.errors import Damaged, StoreDenied, StoreError, StoreUnavailable
from spotwatchd.store.checksum import chunks_of

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_NO_LINKS = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NOT_A_STORE = {errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


def is_full(error: OSError) -> bool:
    """Whether a disk, or somebody's share of it, has no room left."""
    return error.errno in _FULL


@contextlib.contextmanager
def store_errors(operation: str, url: str, key: str, root: Path) -> Iterator[None]:
    """Turn OSError into StoreDenied where a person must act, else into StoreUnavailable."""
    try:
        yield
    except OSError as error:
        raise _translated(error, operation, f"{url}/{key}", root) from error


def _translated(error: OSError, operation: str, where: str, root: Path) -> StoreError:
    reason = error.strerror or str(error)
    what = f"cannot {operation}: {reason[:1].lower()}{reason[1:]}"
    if error.filename:
        where = f"{where} ({os.fspath(error.filename)})"
    remedy = _remedy(error.errno, root)
    if remedy is None:
        return StoreUnavailable(what, where=where, remedy="is the disk or the file server there?")
    return StoreDenied(what, where=where, remedy=remedy)


def _remedy(number: int | None, root: Path) -> str | None:
    if number in _FULL:
        return f"the disk of the store is full: free space below {root}, or keep fewer checkpoints"
    if number in _FORBIDDEN:
        return f"let uid {os.geteuid()} read, write and search {root} and what is below it"
    if number == errno.EROFS:
        return f"mount the file system of {root} read-write"
    if number in _NO_LINKS:
        return "use a file system with hard links (EFS, NFS, ext4, xfs): leases need link(2)"
    if number in _NOT_A_STORE:
        return f"name a directory: {root}, or what is in the way below it, is none"
    return None


def local_chunks(path: Path, url: str) -> Iterator[bytes]:
    """The checkpoint's own file. Raises Damaged: the store has nothing to do with it."""
    with local_errors(path, url), path.open("rb", buffering=0) as file:
        yield from chunks_of(file)


@contextlib.contextmanager
def local_errors(path: Path, url: str) -> Iterator[None]:
    """Around what reads the checkpoint's own file and does nothing else."""
    try:
        yield
    except OSError as error:
        raise Damaged(
            f"cannot put: the checkpoint's file cannot be read ({error.strerror or error})",
            where=f"{path} for {url}",
            remedy="checkpoints must stay readable until they are committed",
        ) from error
