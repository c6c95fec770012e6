"""A checkpoint's way back: every byte checked while it is read, the name given at the end.

What the store says is not trusted. Paths were checked by the manifest's parser; the bytes go
to a new directory in which nobody else creates links, and each file is created exclusively.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import Manifest, StoredFile
from spotwatchd.errors import Damaged
from spotwatchd.store import files
from spotwatchd.store.base import Backend
from spotwatchd.store.checkpoints import survey
from spotwatchd.store.checksum import crc64nvme, crc64nvme_of_file
from spotwatchd.store.layout import file_key
from spotwatchd.store.listing import read_manifest
from spotwatchd.store.swap import new_nonce
from spotwatchd.wire.seal import RESTORING_PREFIX, sealed_name

DISCARDED_PREFIX = ".discarded-"


@dataclass(frozen=True)
class RestoredCheckpoint:
    """A checkpoint that lies, verified, on local disk.

    Attributes:
        path: absolute.
        size: bytes.
        seconds: how long it took.
        local: it was there already; nothing was downloaded.
    """

    id: CheckpointId
    path: Path
    size: int
    seconds: float
    local: bool = False

    @property
    def step(self) -> int:
        """The training step it holds."""
        return self.id.step

    def __str__(self) -> str:
        return f"step {self.id.step:,} in {self.path}"


def local_name(manifest: Manifest) -> str:
    """Where the checkpoint belongs, relative to the checkpoint directory."""
    if manifest.form == "file":
        return manifest.files[0].path
    return sealed_name(manifest.id.step)


def is_here(directory: Path, manifest: Manifest) -> bool:
    """Whether the checkpoint is on local disk already, byte for byte."""
    try:
        form, found = survey(directory, local_name(manifest))
        sizes = {file.name: file.size for file in found}
        wanted = {entry.path: entry.size for entry in manifest.files}
        if form != manifest.form or sizes != wanted:
            return False
        sums = {file.name: crc64nvme_of_file(file.path)[1] for file in found}
    except (OSError, Damaged):
        return False
    return sums == {entry.path: entry.crc64nvme for entry in manifest.files}


def restore(
    backend: Backend, job: str, checkpoint: CheckpointId, directory: Path
) -> RestoredCheckpoint:
    """Bring ``checkpoint`` into ``directory`` under its own name, or find it there.

    Raises:
        Damaged: it does not verify. The directory is as before.
        StoreUnavailable, StoreDenied, OSError.
    """
    began = time.monotonic()
    manifest = read_manifest(backend, job, checkpoint)
    target = directory / local_name(manifest)
    local = is_here(directory, manifest)
    if not local:
        fetch(backend, manifest, directory)
    return RestoredCheckpoint(
        checkpoint, target, manifest.size, time.monotonic() - began, local=local
    )


def fetch(backend: Backend, manifest: Manifest, directory: Path) -> None:
    """Download into a temporary directory, verify, put it in its place."""
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f"{RESTORING_PREFIX}{manifest.id}-{new_nonce()[:8]}"
    temporary.mkdir()
    try:
        for entry in manifest.files:
            _fetch_file(backend, manifest, entry, temporary)
        _sync_tree(temporary)
        source = temporary / manifest.files[0].path if manifest.form == "file" else temporary
        _install(source, directory / local_name(manifest), directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fetch_file(backend: Backend, manifest: Manifest, entry: StoredFile, root: Path) -> None:
    key = file_key(manifest.job, manifest.holder(entry), entry.path)
    path = root / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    size = crc = 0
    with path.open("xb", buffering=0) as file:
        try:
            for chunk in backend.read(key):
                size, crc = size + len(chunk), crc64nvme(chunk, crc)
                if size > entry.size:
                    break
                files.write_all(file, chunk)
        except KeyError:
            raise Damaged("a file is missing", where=f"{backend.url}/{key}") from None
        if (size, crc) != (entry.size, entry.crc64nvme):
            raise Damaged(_difference(entry, size, crc), where=f"{backend.url}/{key}")
        files.finish(file, size)


def _difference(entry: StoredFile, size: int, crc: int) -> str:
    if size != entry.size:
        more = "more than " if size > entry.size else ""
        return (
            f"the file has {more}{min(size, entry.size):,} bytes, the manifest says {entry.size:,}"
        )
    return f"its CRC64NVME is {crc:016x}, the manifest says {entry.crc64nvme:016x}"


def _sync_tree(root: Path) -> None:
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        files.sync_directory(folder)


def _install(source: Path, target: Path, directory: Path) -> None:
    """Give it its name. What had that name goes: it is not what the manifest says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    discard(target, directory)
    source.rename(target)
    files.sync_directory(target.parent)


def discard(path: Path, directory: Path) -> None:
    """Delete the checkpoint at ``path``, if it is there.

    It loses its name first: half of a checkpoint under a sealed name would pass for a
    checkpoint that the job has just made.
    """
    if path.is_symlink() or path.exists():
        discarded = directory / f"{DISCARDED_PREFIX}{new_nonce()[:8]}"
        path.rename(discarded)
        remove(discarded)


def remove(path: Path) -> None:
    """Delete a file or a directory tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(directory: Path) -> None:
    """Delete what an earlier life of the replicator left half done.

    Only for the one replicator of the job, which holds the lock.
    """
    for prefix in (RESTORING_PREFIX, DISCARDED_PREFIX):
        for path in directory.glob(f"{prefix}*"):
            remove(path)
