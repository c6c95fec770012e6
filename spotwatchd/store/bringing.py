"""A sealed checkpoint's bytes: what is there already, what was sent early, and the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spotwatchd.core.head import Head
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Tenure
from spotwatchd.core.manifest import Manifest, StoredFile
from spotwatchd.core.words import Seal
from spotwatchd.errors import StoreError
from spotwatchd.store.base import Backend
from spotwatchd.store.checkpoints import Cargo, LocalFile, survey, upload
from spotwatchd.store.growth import MOST
from spotwatchd.store.layout import file_key
from spotwatchd.store.meter import Meter
from spotwatchd.store.numbers import Numbers
from spotwatchd.store.outcomes import Upload
from spotwatchd.store.patience import Patience
from spotwatchd.store.shipping import HeadStart
from spotwatchd.store.swap import boottime
from spotwatchd.store.unchanged import Same, Unchanged

Claim = Callable[
    [Seal, Sequence[LocalFile], Callable[[], None]],
    tuple[CheckpointId, Mapping[str, HeadStart]] | None,
]
"""See follower.Follower.claim."""


class Bringing:
    """Brings one job's checkpoints to the store. One thread.

    Attributes:
        claim: where head starts come from.
        threads: how many parts go at once at most.
    """

    def __init__(self, backend: Backend, job: str, directory: Path, numbers: Numbers) -> None:
        self._backend = backend
        self._job = job
        self._directory = directory
        self._numbers = numbers
        self._unchanged = Unchanged(backend, job)
        self.claim: Claim = lambda _seal, _files, _check: None
        self.threads: Callable[[], int] = lambda: MOST

    def bring(
        self, tenure: Tenure, seal: Seal, head: Head | None, limits: Patience, meter: Meter
    ) -> Upload:
        """Upload it under an id of its own. See checkpoints.upload for what it raises."""
        began = boottime()
        form, files = survey(self._directory, seal.path)
        same = self._unchanged.find(head, files, limits)
        early = self.claim(seal, files, limits.check)
        checkpoint, starts = early or (self._numbers.next(tenure, seal.step), {})
        try:
            cargo = Cargo(self._job, checkpoint, files, starts)
            stored = self._ship(cargo, same, limits, meter)
        except BaseException:
            self._numbers.give_up(checkpoint)
            raise
        return Upload(checkpoint, form, stored, boottime() - began, same.base, meter.sent)

    def _ship(
        self, cargo: Cargo, same: Same, limits: Patience, meter: Meter
    ) -> tuple[StoredFile, ...]:
        """Send what is not in the store; returns the entries of all files, in their order."""
        starts = dict(cargo.head_starts)
        for name in starts.keys() & same.entries.keys():
            key = file_key(cargo.job, cargo.checkpoint, name)
            with contextlib.suppress(StoreError):
                self._backend.abort(key, starts.pop(name).upload)
        early = sum(part.size for start in starts.values() for part in start.parts.values())
        meter.begin(same.size + early, sum(file.size for file in cargo.files))
        rest = [file for file in cargo.files if file.name not in same.entries]
        cargo_left = replace(cargo, files=rest, head_starts=starts)
        sent = upload(self._backend, cargo_left, limits, self.threads())
        self._unchanged.uploaded(rest)
        entries = {**same.entries, **{entry.path: entry for entry in sent}}
        return tuple(entries[file.name] for file in cargo.files)

    def committed(self, manifest: Manifest) -> None:
        """Head lists what was brought last."""
        self._unchanged.committed(manifest)
