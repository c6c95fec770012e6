"""Choosing what a job goes on from, and putting it in its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Protocol

from spotwatchd.core import fence
from spotwatchd.core.head import Head, Listed, Quarantined
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Tenure
from spotwatchd.core.retention import candidates
from spotwatchd.core.words import Seal
from spotwatchd.errors import Damaged, JobError, SpotwatchError
from spotwatchd.store import partial, unsynced
from spotwatchd.store.base import Backend
from spotwatchd.store.heads import Heads
from spotwatchd.store.listing import read_manifest
from spotwatchd.store.local import Local
from spotwatchd.store.local_journal import LocalSeal, Reign
from spotwatchd.store.local_scan import mark_of
from spotwatchd.store.patience import FIRST_PAUSE, Patience
from spotwatchd.store.restore import (
    How,
    RestoredCheckpoint,
    is_here,
    local_name,
    restore,
    until_sure,
)
from spotwatchd.wire.seal import step_of


class Tell(Protocol):
    """Where an owner's news for people goes. Both may be called from any thread."""

    def alarm(self, error: SpotwatchError) -> None:
        """Something a person should know of, or do something about."""

    def said(self, line: str) -> None:
        """One line of the story."""


def require(head: Head | None, job: str) -> Head:
    """``head``, which an owner always has."""
    if head is None:
        raise Damaged(f"head.json of {job} is missing", where=job)
    return head


def now_text() -> str:
    """The wall clock, for documents that people read: ISO 8601, UTC, milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Resuming:
    """The last part of a take. Head is claimed already."""

    def __init__(self, backend: Backend, job: str, local: Local, heads: Heads, tell: Tell) -> None:
        self.backend = backend
        self.job = job
        self.local = local
        self.heads = heads
        self.tell = tell

    def choose(
        self, tenure: Tenure, before: Reign, limits: Patience, confirm: Callable[[], None]
    ) -> LocalSeal | None:
        """The checkpoint to go on from, verified and in its place; None: from the beginning.

        Args:
            tenure: of the caller.
            before: the reign that head showed before this take.
            limits: cancels it.
            confirm: see Heads.swap.

        Raises OSError (local disk), StoreUnavailable, StoreDenied, LeaseLost, Cancelled.
        """
        unsynced.settle(self.local.directory, partial.this_boot(), self._not_on_disk)
        self.local.scan()
        own = self.local.usable(before)
        if own is not None:
            found: LocalSeal | None = self._own(own, before, limits)
        else:
            found = self._newest_good(tenure, limits, confirm)
        partial.clear(self.local.directory)
        return found

    def _newest_good(
        self, tenure: Tenure, limits: Patience, confirm: Callable[[], None]
    ) -> LocalSeal | None:
        for entry in candidates(require(self.heads.head, self.job)):
            limits.check()
            found = self._restore(entry, tenure, limits, confirm)
            if found is not None:
                self._report(found)
                return self._placed(found, Reign(tenure.generation, tenure.token))
        self._report_nothing()
        return None

    def _own(self, own: LocalSeal, before: Reign, limits: Patience) -> LocalSeal:
        committed = limits.retry(lambda: self.listed_twin(own, before))
        if committed is not None:
            self.tell.said(f"step {own.seal.step:,} is on this disk and committed: nothing to load")
        else:
            self.tell.said(f"step {own.seal.step:,} was sealed on this disk after the last commit")
        return LocalSeal(own.seal, before, committed)

    def reconcile(self, reign: Reign) -> None:
        """Note what a killed process of this very tenure committed. Raises as the store does."""
        for entry in self.local.entries:
            if entry.committed is None and entry.reign == reign:
                twin = self.listed_twin(entry, reign)
                if twin is not None:
                    self.local.committed(entry.seal.path, twin)

    def listed_twin(self, own: LocalSeal, reign: Reign) -> str | None:
        """The id under which head lists this very checkpoint, or None.

        There is one when the replicator was killed between the commit and its note of it.
        """
        for entry in require(self.heads.head, self.job).checkpoints:
            if (entry.id.generation, entry.id.step) == (reign.generation, own.seal.step):
                try:
                    manifest = read_manifest(self.backend, self.job, entry.id)
                except Damaged:
                    continue
                if local_name(manifest) == own.seal.path and is_here(
                    self.local.directory, manifest
                ):
                    return str(entry.id)
        return None

    def _restore(
        self, entry: Listed, tenure: Tenure, limits: Patience, confirm: Callable[[], None]
    ) -> RestoredCheckpoint | None:
        try:
            return until_sure(lambda: self._read(entry, limits), lambda: limits.pause(FIRST_PAUSE))
        except Damaged as error:
            partial.give_up(self.local.directory, entry.id)
            bad = Quarantined(entry.id, f"{error.what} ({error.where})", now_text())
        limits.retry(
            lambda: self.heads.swap(
                lambda head: fence.quarantine(require(head, self.job), tenure, bad), confirm
            )
        )
        self.tell.alarm(
            Damaged(
                f"step {entry.id.step:,} does not verify and is quarantined: {bad.reason}",
                where=f"{self.backend.url}/{self.job}/checkpoints/{entry.id}",
                remedy="nothing to do: the checkpoint before it is tried",
            )
        )
        return None

    def _read(self, entry: Listed, limits: Patience) -> RestoredCheckpoint:
        directory = self.local.directory
        partial.clear(directory, keep=entry.id)
        how = How(limits=limits, problem=self._not_on_disk, others=self._others(entry))
        try:
            return limits.retry(lambda: restore(self.backend, self.job, entry.id, directory, how))
        except JobError as error:
            self.tell.alarm(error)
            raise

    def _others(self, wanted: Listed) -> dict[str, CheckpointId]:
        """The committed checkpoints on this disk, the newest first."""
        found = {}
        for entry in reversed(self.local.entries):
            known = CheckpointId.find(entry.committed or "")
            if known not in (None, wanted.id) and step_of(entry.seal.path) is not None:
                found[entry.seal.path] = known
        return found

    def _not_on_disk(self, error: OSError) -> None:
        self.tell.alarm(
            JobError(
                f"the restored checkpoint cannot be forced to disk: {error.strerror or error}",
                where=str(self.local.directory),
                remedy="look at the disk; after a power cut the checkpoint is fetched again",
            )
        )

    def _placed(self, found: RestoredCheckpoint, reign: Reign) -> LocalSeal:
        path = str(found.path.relative_to(self.local.directory))
        seal = Seal(path, found.step, mark_of(found.path))
        return LocalSeal(seal, reign, str(found.id))

    def _report(self, found: RestoredCheckpoint) -> None:
        head = require(self.heads.head, self.job)
        newest = head.checkpoints[-1].id if head.checkpoints else found.id
        if found.id != newest:
            self.tell.alarm(
                Damaged(
                    f"going on from step {found.step:,}, not from the newest, step "
                    f"{newest.step:,}: the job crashed from it {head.crashes} times",
                    where=f"{self.backend.url}/{self.job}",
                )
            )
        if found.local:
            how = f"found on this disk, verified, {found.seconds:.1f} s"
        else:
            how = f"restored from {self.backend.url}/{self.job}, verified, {found.speed}"
        self.tell.said(f"step {found.step:,} {how}")

    def _report_nothing(self) -> None:
        head = require(self.heads.head, self.job)
        if head.quarantine:
            self.tell.alarm(
                Damaged(
                    "no committed checkpoint verifies: starting at step 0",
                    where=f"{self.backend.url}/{self.job}",
                    remedy="look at head.json: quarantine; the bytes are kept",
                )
            )
        self.tell.said(f"no checkpoint in {self.backend.url}/{self.job}, starting at step 0")
