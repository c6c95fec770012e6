"""Which objects of a checkpoint the others refer to, by all manifests that the store has."""

from __future__ import annotations

from spotwatchd.core.ids import CheckpointId
from spotwatchd.errors import Damaged
from spotwatchd.store.base import Backend
from spotwatchd.store.listing import read_manifest, stored_ids


class References:
    """Remembers manifests, which never change: until they are forgotten, or not listed any more."""

    def __init__(self, backend: Backend, job: str) -> None:
        self._backend = backend
        self._job = job
        self._known: dict[CheckpointId, frozenset[tuple[CheckpointId, str]]] = {}

    def to(self, checkpoint: CheckpointId) -> dict[str, frozenset[CheckpointId]]:
        """The paths of ``checkpoint`` that are needed, and by whom.

        Listed or not, marked or not: a checkpoint whose manifest is there counts. Raises
        StoreUnavailable, StoreDenied (also for a manifest of a newer version).
        """
        self._look()
        found: dict[str, frozenset[CheckpointId]] = {}
        for other, references in self._known.items():
            for holder, path in references:
                if holder == checkpoint:
                    found[path] = found.get(path, frozenset()) | {other}
        return found

    def forget(self, checkpoint: CheckpointId) -> None:
        """Its manifest is about to go."""
        self._known.pop(checkpoint, None)

    def _look(self) -> None:
        stored = stored_ids(self._backend, self._job)
        known = {}
        for checkpoint in stored:
            references = self._known.get(checkpoint)
            if references is None:
                references = self._read(checkpoint)
            if references is not None:
                known[checkpoint] = references
        self._known = known

    def _read(self, checkpoint: CheckpointId) -> frozenset[tuple[CheckpointId, str]] | None:
        try:
            return read_manifest(self._backend, self._job, checkpoint).references
        except Damaged:
            return None  # none yet, or none that anybody could restore from
