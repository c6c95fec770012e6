"""A sealed checkpoint's way into the store: its files, then its manifest.

The third step, listing it in head, is the owner's (custody.py). Until then nothing that
happens here can be seen by a resume: keys are unique, and nobody lists them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import Manifest, StoredFile, is_inside
from spotwatchd.errors import Conflict, Damaged, StoreUnavailable
from spotwatchd.store.base import Backend
from spotwatchd.store.growth import MOST
from spotwatchd.store.layout import file_key, manifest_key
from spotwatchd.store.listing import read_manifest
from spotwatchd.store.patience import Patience
from spotwatchd.store.shipping import HeadStart, Outgoing, ship


@dataclass(frozen=True)
class LocalFile:
    """A file of a sealed checkpoint, and what tells whether it changes meanwhile.

    Attributes:
        identity: device and inode, which it had before it was renamed, too.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int
    identity: tuple[int, int] = (0, 0)


def survey(root: Path, path: str) -> tuple[str, list[LocalFile]]:
    """The form ("directory" or "file") and the files of the checkpoint at ``root/path``.

    Raises:
        Damaged: something that cannot be stored (a link to a directory, a device ...).
        OSError: it cannot be read, or is gone.
    """
    sealed = root / path
    if not sealed.is_dir():
        return "file", [_local_file(sealed, path)]
    return "directory", sorted(_walk(sealed, ""), key=lambda file: file.name)


def _walk(folder: Path, prefix: str) -> Iterator[LocalFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{name}/")
            else:
                yield _local_file(Path(entry.path), name)


def _local_file(path: Path, name: str) -> LocalFile:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or not is_inside(name):
        raise Damaged(
            f"a checkpoint cannot contain {name!r}",
            where=str(path),
            remedy="only plain files under plain names are stored",
        )
    identity = (found.st_dev, found.st_ino)
    return LocalFile(path, name, found.st_size, found.st_mtime_ns, identity)


@dataclass(frozen=True)
class Cargo:
    """What is to be brought to the store.

    Attributes:
        checkpoint: below which id.
        head_starts: what was sent before the seal, by name.
    """

    job: str
    checkpoint: CheckpointId
    files: list[LocalFile]
    head_starts: Mapping[str, HeadStart] = field(default_factory=dict)


def upload(
    backend: Backend, cargo: Cargo, limits: Patience, most: int = MOST
) -> tuple[StoredFile, ...]:
    """Bring the files to the store; returns them with checksums, each verified by the store.

    Raises:
        Damaged: a file changed after its seal.
        OSError: a local file cannot be read.
        Cancelled, OutOfTime, StoreDenied.
    """
    outgoing = [
        Outgoing(
            file_key(cargo.job, cargo.checkpoint, file.name),
            file.path,
            file.name,
            file.size,
            cargo.head_starts.get(file.name),
        )
        for file in cargo.files
    ]
    shipped = ship(backend, outgoing, limits, most, trouble=limits.trouble)
    _check_unchanged(cargo.files)
    return tuple(StoredFile(one.name, one.size, one.crc64nvme) for one in shipped)


def _check_unchanged(files: list[LocalFile]) -> None:
    for file in files:
        now = file.path.stat()
        if (now.st_size, now.st_mtime_ns) != (file.size, file.mtime_ns):
            raise Damaged(
                "the checkpoint changed while it was stored",
                where=str(file.path),
                remedy="write to a temporary name and rename: that is the seal",
            )


def write_manifest(backend: Backend, manifest: Manifest) -> None:
    """Write MANIFEST.json, which exists once and never changes.

    Raises:
        Damaged: another manifest is there.
        StoreUnavailable: try again; an answer that was lost is noticed then.
    """
    key = manifest_key(manifest.job, manifest.id)
    try:
        backend.put_bytes(key, manifest.encode(), only_if_absent=True)
    except (Conflict, StoreUnavailable) as error:
        if not _is_there(backend, manifest):
            if isinstance(error, StoreUnavailable):
                raise
            raise Damaged("another manifest has its name", where=f"{backend.url}/{key}") from error


def _is_there(backend: Backend, manifest: Manifest) -> bool:
    try:
        return read_manifest(backend, manifest.job, manifest.id).files == manifest.files
    except Damaged:
        return False
