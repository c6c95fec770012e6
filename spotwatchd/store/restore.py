"""A checkpoint's way back: every byte checked while it is read, the name given at the end.

What the store says is not trusted. Paths were checked by the manifest's parser; the bytes go
to a directory of our own (partial.py), and only when all of them have the manifest's checksums
does that directory get the checkpoint's name. What is on this disk already and has the right
checksum is not fetched (reuse.py); what an earlier process fetched is not fetched again.

A process cannot start before its checkpoint is whole. The checksum is of whole files, the
formats in use keep their index at the end or read everything at once, and a process that has
begun to load a checkpoint that turns out to be damaged could not be given the one before it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import Manifest, StoredFile
from spotwatchd.errors import Damaged, JobError, StoreDenied
from spotwatchd.store import files, partial, reuse, unsynced
from spotwatchd.store.base import Backend, Limits
from spotwatchd.store.checkpoints import survey
from spotwatchd.store.fetching import Fetching, Wanted
from spotwatchd.store.growth import MOST
from spotwatchd.store.layout import file_key
from spotwatchd.store.listing import read_manifest
from spotwatchd.store.oserrors import is_full
from spotwatchd.store.partial import Partial
from spotwatchd.store.patience import Patience
from spotwatchd.store.swap import new_nonce
from spotwatchd.wire.seal import sealed_name

DISCARDED_PREFIX = ".discarded-"


@dataclass(frozen=True)
class RestoredCheckpoint:
    """A checkpoint that lies, verified, on local disk.

    Attributes:
        path: absolute.
        size: bytes.
        seconds: how long it took.
        local: it was there already; nothing was downloaded.
        fetched: bytes that were downloaded, this time.
    """

    id: CheckpointId
    path: Path
    size: int
    seconds: float
    local: bool = False
    fetched: int = 0

    @property
    def step(self) -> int:
        """The training step it holds."""
        return self.id.step

    @property
    def speed(self) -> str:
        """For people: how much of it came from the store, and how fast."""
        rate = self.fetched / max(self.seconds, 1e-3) / 1e6
        return f"{self.fetched / 1e9:,.3f} GB in {self.seconds:.1f} s ({rate:,.0f} MB/s)"

    def __str__(self) -> str:
        return f"step {self.id.step:,} in {self.path}"


@dataclass(frozen=True)
class How:
    """What a restore is done with.

    Attributes:
        limits: of the whole of it.
        threads: ranges fetched at once at most.
        boot_id: see partial.this_boot.
        problem: given, the checkpoint gets its name before it is on disk, and an error of that
            goes there (unsynced.py); None: it is on disk when ``restore`` returns.
        others: sealed checkpoints in the directory and their ids in the store: what they have
            in common with the wanted one is copied.
    """

    limits: Limits = field(default_factory=Patience)
    threads: int = MOST
    boot_id: str = field(default_factory=partial.this_boot)
    problem: unsynced.Problem | None = None
    others: Mapping[str, CheckpointId] = field(default_factory=dict)


def local_name(manifest: Manifest) -> str:
    """Where the checkpoint belongs, relative to the checkpoint directory."""
    if manifest.form == "file":
        return manifest.files[0].path
    return sealed_name(manifest.id.step)


def root_of(directory: Path, manifest: Manifest) -> Path:
    """What the paths in the manifest are relative to, for a checkpoint in its place."""
    return directory if manifest.form == "file" else directory / sealed_name(manifest.id.step)


def is_here(directory: Path, manifest: Manifest) -> bool:
    """Whether the checkpoint is on local disk already, byte for byte."""
    return _nothing_else(directory, manifest) and len(
        reuse.matching(root_of(directory, manifest), manifest.files)
    ) == len(manifest.files)


def _nothing_else(directory: Path, manifest: Manifest) -> bool:
    try:
        form, found = survey(directory, local_name(manifest))
    except (OSError, Damaged):
        return False
    wanted = {entry.path: entry.size for entry in manifest.files}
    return form == manifest.form and {file.name: file.size for file in found} == wanted


def restore(
    backend: Backend, job: str, checkpoint: CheckpointId, directory: Path, how: How | None = None
) -> RestoredCheckpoint:
    """Bring ``checkpoint`` into ``directory`` under its own name, or find it there.

    What has arrived when this fails stays hidden in the directory, and the next call goes on
    from there; ``partial.give_up`` deletes it.

    Raises:
        Damaged: it does not verify.
        JobError: it does not fit on the disk.
        StoreUnavailable, StoreDenied, OSError, and what the limits raise.
    """
    how = how or How()
    began = time.monotonic()
    manifest = read_manifest(backend, job, checkpoint)
    here = _Restoring(backend, manifest, directory, how)
    local = is_here(directory, manifest)
    fetched = 0 if local else here.bring()
    seconds = time.monotonic() - began
    target = directory / local_name(manifest)
    return RestoredCheckpoint(checkpoint, target, manifest.size, seconds, local, fetched)


def until_sure(
    read: Callable[[], RestoredCheckpoint], pause: Callable[[], None]
) -> RestoredCheckpoint:
    """Read again until it verifies, or does not in the same way twice.

    Memory, cache and network make errors too, but not the same one twice.

    Args:
        read: see ``restore``.
        pause: called before each further try; raises when the time is over.

    Raises Damaged, and what the two raise.
    """
    said = ""
    while True:
        try:
            return read()
        except Damaged as error:
            if str(error) == said:
                raise
            said = str(error)
        pause()


class _Restoring:
    def __init__(self, backend: Backend, manifest: Manifest, directory: Path, how: How) -> None:
        self._backend = backend
        self._manifest = manifest
        self._directory = directory
        self._how = how
        self._keys = {n: _key(manifest, entry) for n, entry in enumerate(manifest.files)}

    def bring(self) -> int:
        """Fetch what is not here, verify, give it its name; returns how much was fetched."""
        self._directory.mkdir(parents=True, exist_ok=True)
        arrived = Partial(self._directory, self._manifest, self._how.boot_id)
        try:
            fetched = self._fetch(arrived)
            self._name(arrived)
            arrived.remove()
        except OSError as error:
            if is_full(error):
                raise self._no_room(0) from error
            raise
        finally:
            arrived.close()
        shutil.rmtree(self._aside, ignore_errors=True)
        return fetched

    @property
    def _aside(self) -> Path:
        return partial.aside(self._directory, self._manifest.id)

    # ------------------------------------------------------------------ the bytes

    def _fetch(self, arrived: Partial) -> int:
        here = self._reuse(arrived)
        wanted = [
            Wanted(number, entry, self._keys[number])
            for number, entry in enumerate(self._manifest.files)
            if entry.path not in here
        ]
        self._check_room(arrived, sum(each.entry.size for each in wanted))
        fetching = Fetching(self._backend, arrived, self._how.limits, self._how.threads)
        fetching.run(wanted, self._check_listing)
        return fetching.fetched

    def _reuse(self, arrived: Partial) -> set[str]:
        """Take what local disk has of it; returns the paths."""
        check, entries = self._how.limits.check, self._manifest.files
        here: set[str] = set()
        for base in (self._directory, self._aside):
            left = [entry for entry in entries if entry.path not in here]
            root = root_of(base, self._manifest)
            here |= reuse.link_matching(root, left, arrived.files, check)
        for path, checkpoint in self._how.others.items():
            left = [entry for entry in entries if entry.path not in here]
            with contextlib.suppress(Damaged):
                other = read_manifest(self._backend, self._manifest.job, checkpoint)
                if left and other.form == "directory":
                    root = self._directory / path
                    here |= reuse.copy_known(root, other, left, arrived.files, check)
        return here

    def _check_room(self, arrived: Partial, size: int) -> None:
        disk = os.statvfs(self._directory)
        missing = size - arrived.allocated() - disk.f_bavail * disk.f_frsize
        if missing > 0:
            raise self._no_room(missing)

    def _no_room(self, missing: int) -> JobError:
        more = f": {missing:,} bytes more are needed" if missing else ""
        return JobError(
            f"step {self._manifest.id.step:,} ({self._manifest.size:,} bytes) does not fit on the "
            f"disk{more}",
            where=str(self._directory),
            remedy="free space on it, or use a larger disk; what has arrived stays there",
        )

    def _check_listing(self) -> None:
        """What the store lists must be there in full size: said before hours of fetching.

        Also the only way to notice that an object is longer than it should be. A user who
        may not list the store still may restore from it.
        """
        missing = {self._keys[n]: entry.size for n, entry in enumerate(self._manifest.files)}
        prefixes = {
            self._keys[n].removesuffix(f"/{entry.path}")
            for n, entry in enumerate(self._manifest.files)
        }
        with contextlib.suppress(StoreDenied):
            for prefix in sorted(prefixes):
                for info in self._backend.objects(prefix):
                    self._how.limits.check()
                    size = missing.pop(info.key, info.size)
                    if size != info.size:
                        raise self._damaged(
                            info.key,
                            f"the file has {info.size:,} bytes, the manifest says {size:,}",
                        )
            for key in missing:
                raise self._damaged(key, "a file is missing")

    def _damaged(self, key: str, what: str) -> Damaged:
        return Damaged(what, where=f"{self._backend.url}/{key}")

    # ------------------------------------------------------------------ the name

    def _name(self, arrived: Partial) -> None:
        name, directory = local_name(self._manifest), self._directory
        source = root_in(arrived, self._manifest)
        target = directory / name
        if self._how.problem is None:
            unsynced.sync_tree(source)
        else:
            note = unsynced.Note(
                directory, self._manifest.id, name, source.lstat().st_ino, self._how.boot_id
            )
            note.make()
        target.parent.mkdir(parents=True, exist_ok=True)
        discard(target, directory)
        source.rename(target)
        if self._how.problem is None:
            files.sync_directory(target.parent)
        else:
            unsynced.sync_later(note, self._how.problem)


def root_in(arrived: Partial, manifest: Manifest) -> Path:
    """What is to be renamed."""
    return arrived.files / manifest.files[0].path if manifest.form == "file" else arrived.files


def _key(manifest: Manifest, entry: StoredFile) -> str:
    return file_key(manifest.job, manifest.holder(entry), entry.path)


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
    """Delete what an earlier life of the replicator left half deleted.

    Only for the one replicator of the job, which holds the lock. What it left half restored
    stays until it is known which checkpoint is restored next (partial.clear).
    """
    for path in directory.glob(f"{DISCARDED_PREFIX}*"):
        remove(path)
