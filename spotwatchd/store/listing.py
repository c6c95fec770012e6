"""What the store shows of a job's checkpoints, whatever head says."""

from __future__ import annotations

from collections.abc import Iterator

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import MANIFEST, REMOVED, Manifest, parse_manifest
from spotwatchd.errors import Damaged
from spotwatchd.store.base import Backend
from spotwatchd.store.layout import checkpoint_prefix, checkpoints_prefix, manifest_key

# A manifest of a million files is about 100 MB; more than that is not ours.
_LARGEST_MANIFEST = 256 << 20


def stored_ids(backend: Backend, job: str) -> list[CheckpointId]:
    """Every checkpoint of which the store has at least one object."""
    found = (CheckpointId.find(name) for name in backend.children(checkpoints_prefix(job)))
    return sorted(checkpoint for checkpoint in found if checkpoint is not None)


def read_manifest(backend: Backend, job: str, checkpoint: CheckpointId) -> Manifest:
    """The manifest of ``checkpoint``. Raises Damaged (also when there is none)."""
    key = manifest_key(job, checkpoint)
    where = f"{backend.url}/{key}"
    body = bytearray()
    try:
        for chunk in backend.read(key):
            body += chunk
            if len(body) > _LARGEST_MANIFEST:
                raise Damaged("the manifest is too large to be one", where=where)
    except KeyError:
        raise Damaged("the manifest is missing", where=where) from None
    return parse_manifest(bytes(body), job, checkpoint, where)


def complete_manifests(backend: Backend, job: str) -> Iterator[Manifest]:
    """The checkpoints that are whole by their manifests and sizes, and not being deleted.

    Also the files that are objects of earlier checkpoints must be there.
    """
    for checkpoint in stored_ids(backend, job):
        sizes = _sizes(backend, job, checkpoint)
        if MANIFEST not in sizes or REMOVED in sizes:
            continue
        try:
            manifest = read_manifest(backend, job, checkpoint)
        except Damaged:
            continue
        if _is_whole(backend, manifest, sizes):
            yield manifest


def _sizes(backend: Backend, job: str, checkpoint: CheckpointId) -> dict[str, int]:
    prefix = checkpoint_prefix(job, checkpoint)
    return {info.key.removeprefix(f"{prefix}/"): info.size for info in backend.objects(prefix)}


def _is_whole(backend: Backend, manifest: Manifest, own: dict[str, int]) -> bool:
    there = {manifest.id: own}
    for entry in manifest.files:
        holder = manifest.holder(entry)
        if holder not in there:
            there[holder] = _sizes(backend, manifest.job, holder)
        if there[holder].get(entry.path) != entry.size:
            return False
    return True
