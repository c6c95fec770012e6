"""One job in one process's hands: taken, its checkpoints committed, given back.

The order of the writes is the protocol (DESIGN.md section 6):

    take      lease -> head (claimed: older owners are fenced) -> restore -> spec
    commit    files -> MANIFEST.json -> head
    release   head -> lease

Everything may be repeated. An operation that was killed or lost its answer is begun again
and finds what it did the first time. One thread calls all of this, except where it says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from spotwatchd.core import fence, identity
from spotwatchd.core.head import Head, Listed
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Tenure
from spotwatchd.core.manifest import Manifest
from spotwatchd.core.words import Seal
from spotwatchd.errors import (
    Damaged,
    JobError,
    LeaseLost,
    SpotwatchError,
    StoreError,
    StoreUnavailable,
)
from spotwatchd.store.base import Backend
from spotwatchd.store.bringing import Bringing
from spotwatchd.store.checkpoints import write_manifest
from spotwatchd.store.heads import Heads
from spotwatchd.store.job_file import JobFile
from spotwatchd.store.jobs import read_spec, write_spec
from spotwatchd.store.leasing import Leasing, Waiting
from spotwatchd.store.listing import stored_ids
from spotwatchd.store.local import Local
from spotwatchd.store.local_journal import LocalSeal, Reign
from spotwatchd.store.memory import Memory
from spotwatchd.store.meter import Meter
from spotwatchd.store.numbers import Numbers
from spotwatchd.store.outcomes import Taken, Upload
from spotwatchd.store.pace import Pace
from spotwatchd.store.patience import Patience
from spotwatchd.store.restore import remove_leftovers
from spotwatchd.store.resuming import Resuming, Tell, now_text, require

# How often a waiting taker looks: a lease that is given back is noticed this late at most.
_LOOK_EVERY = 2.0


class Custody:
    """See the head of this file."""

    def __init__(self, job: JobFile, backend: Backend, tell: Tell) -> None:
        self.job = job
        self.backend = backend
        self.tell = tell
        self.memory = Memory(job.runtime_dir, job.owner.boot_id)
        self.leasing = Leasing(
            backend,
            job.name,
            job.owner,
            job.terms,
            remember=self.memory.begin,
            alarm=tell.alarm,
        )
        self.heads = Heads(backend, job.name, job.spec.run_id, tell.alarm)
        self.local = Local(job.checkpoint_dir, job.name, job.checkpoint_glob, settle=job.settle)
        self._resuming = Resuming(backend, job.name, self.local, self.heads, tell)
        self.taken: Taken | None = None
        self.spec = job.spec
        self._died_running = False
        self._uploads: dict[tuple[str, str], Upload] = {}
        self.numbers = Numbers(self.memory)
        self.bringing = Bringing(backend, job.name, job.checkpoint_dir, self.numbers)

    # ------------------------------------------------------------------ for other threads

    def in_progress(self) -> frozenset[CheckpointId]:
        """The ids that may yet be committed (any thread)."""
        return self.numbers.in_use()

    def tenure(self) -> Tenure:
        """The tenure of a job that is taken (any thread). Raises LeaseLost."""
        if self.taken is None:
            raise LeaseLost(f"this machine has not taken {self.job.name}", where=self.job.name)
        return self.leasing.held()

    def reserve(self, step: int) -> CheckpointId:
        """See follower.Owner."""
        return self.numbers.reserve(self.tenure(), step)

    def is_mine(self, checkpoint: CheckpointId) -> bool:
        """See follower.Owner."""
        try:
            return self.tenure().generation == checkpoint.generation
        except LeaseLost:
            return False

    # ------------------------------------------------------------------ take

    def adopt(self) -> bool:
        """Go on with the tenure of a replicator that was killed. Raises StoreUnavailable."""
        remove_leftovers(self.job.checkpoint_dir)
        known = self.memory.known
        if known is None or not self.leasing.adopt(known.generation, known.token):
            return False
        if not known.taken:
            return True
        self._agree_again()
        head = self.heads.load()
        tenure = self.leasing.held()
        with self._fenced():
            # A swap of the killed process may still be on its way: this one outdates it.
            head = self.heads.touch(lambda found: self._mine(found, tenure), self.leasing.confirm)
        self._resuming.reconcile(Reign(tenure.generation, tenure.token))
        self.taken = self._answer(head, known.restored)
        return True

    def _mine(self, head: Head | None, tenure: Tenure) -> Head:
        head = require(head, self.job.name)
        fence.fence(head, tenure)
        return head

    def take(self, limits: Patience, waiting: Callable[[Waiting], None]) -> Taken:
        """Own the job, whoever has it now, and put the checkpoint to go on from in its place.

        Args:
            limits: ends the wait for another owner.
            waiting: told at each look at another owner's lease.

        Raises LeaseLost, Cancelled, OutOfTime, StoreDenied, StoreUnavailable, OSError.
        """
        if self.taken is not None and self.leasing.tenure is not None and not self.leasing.lost:
            return replace(self.taken, uncommitted=False)
        try:
            limits.retry(self.agree)
            tenure = self._win(limits, waiting)
            with self.local.lock:
                return self._settle_in(tenure, limits)
        except fence.Halted as end:
            self._let_go()
            return replace(self._answer(end.head, None), ended=end.head.halted)
        except (SpotwatchError, OSError):
            self._let_go()
            raise

    def _win(self, limits: Patience, waiting: Callable[[Waiting], None]) -> Tenure:
        self.taken = None
        self._uploads.clear()
        self.numbers.begin()
        while True:
            limits.retry(self._look_at_head)
            found = limits.retry(lambda: self.leasing.try_take(self._generation_after))
            if isinstance(found, Tenure):
                return found
            if found.seconds > 0:
                waiting(found)
                limits.pause(min(found.seconds, self.job.terms.seconds / 10, _LOOK_EVERY))

    def _look_at_head(self) -> None:
        head = self.heads.load()
        if head is not None and head.halted:
            raise fence.Halted(head)

    def _generation_after(self, lease_generation: int) -> int:
        # Listed, because head or lease may have been lost and the ids must stay unique.
        stored = stored_ids(self.backend, self.job.name)
        return fence.next_generation(lease_generation, self.heads.head, stored)

    def _settle_in(self, tenure: Tenure, limits: Patience) -> Taken:
        run_id = limits.retry(self.agree)
        before = limits.retry(lambda: self._claim(tenure, run_id))
        resumed = self._resuming_from(tenure, before, limits)
        self.local.begin(Reign(tenure.generation, tenure.token), resumed)
        limits.retry(lambda: write_spec(self.backend, replace(self.spec, run_id=run_id)))
        self.leasing.held()
        self.memory.took(resumed.seal if resumed else None)
        head = require(self.heads.head, self.job.name)
        self.taken = self._answer(head, resumed.seal if resumed else None)
        uncommitted = resumed is not None and resumed.committed is None
        return replace(self.taken, uncommitted=uncommitted)

    def _resuming_from(self, tenure: Tenure, before: Reign, limits: Patience) -> LocalSeal | None:
        with self._fenced():
            return self._resuming.choose(tenure, before, limits, self.leasing.confirm)

    def agree(self) -> str:
        """Settle what to run, ours or what the store says; returns the run's identity."""
        try:
            stored = read_spec(self.backend, self.job.name)
        except Damaged as error:
            self.tell.alarm(error)
            stored = None
        self.spec = identity.agreed(self.job.spec, stored, follow=self.job.follow_spec)
        self.heads.run_id = identity.run_id_of(self.spec, stored, self.job.replaces)
        return self.heads.run_id

    def _agree_again(self) -> None:
        """A process that was killed may have gone by a newer spec than our file's."""
        try:
            self.agree()
        except JobError as error:
            self.tell.alarm(error)

    def _claim(self, tenure: Tenure, run_id: str) -> Reign:
        """Swap head to the new generation; returns the reign that it had before."""
        before = Reign()

        def change(head: Head | None) -> Head:
            nonlocal before
            ours = Reign(tenure.generation, tenure.token)
            found = Reign(head.generation, head.tenure) if head else Reign()
            claimed = fence.claim(head, tenure, self.job.name, run_id, replaces=self.job.replaces)
            if found != ours:
                self._died_running = head is not None and head.state == "running"
            anew = head is not None and claimed.run_id != head.run_id
            # What another run sealed on this disk is not to be gone on from.
            before = self.local.claiming(ours, Reign(0, "another run") if anew else found)
            return claimed

        self.heads.load()
        with self._fenced():
            self.heads.swap(change, self.leasing.confirm)
        return before

    def _answer(self, head: Head, restored: Seal | None) -> Taken:
        previous = self.leasing.previous
        return Taken(
            head.generation,
            restored,
            head.attempts,
            head.crashes,
            head.interruption,
            head.ended,
            previous=previous.machine if previous else None,
            unannounced=self._died_running,
            spec=None if self.spec is self.job.spec else self.spec.fields,
        )

    def _let_go(self) -> None:
        """Give the lease back as well as can be: somebody else may do better."""
        self.taken = None
        # Even if head says that the job is another's, the lease may still be ours to give
        # back; the write is conditional, so a lease that is not ours stays as it is.
        self.leasing.lost = None
        with contextlib.suppress(StoreError, LeaseLost):
            self.leasing.give_back()
        self.leasing.tenure = None
        self.memory.forget()

    @contextlib.contextmanager
    def _fenced(self) -> Iterator[None]:
        """Head says that somebody else owns the job: then the lease is lost too."""
        try:
            yield
        except LeaseLost as error:
            self.leasing.lost = error
            raise

    # ------------------------------------------------------------------ upload and commit

    def upload(self, seal: Seal, limits: Patience, meter: Meter | None = None) -> Upload:
        """Bring the checkpoint's bytes to the store, or find that they are there.

        Files that have not changed since the newest committed checkpoint count as there.

        Raises Damaged and OSError when the local files are gone or changed (final), LeaseLost,
        StoreDenied, Cancelled, OutOfTime.
        """
        tenure = self.tenure()
        seal = self.local.note(seal)
        done = self._uploads.get((seal.path, seal.mark))
        if done is None:
            meter = meter or Meter(Pace())
            done = self.bringing.bring(tenure, seal, self.heads.head, limits, meter)
            self._uploads[seal.path, seal.mark] = done
        return done

    def committed_id(self, seal: Seal) -> str | None:
        """The id under which this very checkpoint is committed, or None."""
        entry = self.local.find(seal.path)
        if entry is None or seal.mark not in ("", entry.seal.mark):
            return None
        head, found = self.heads.head, CheckpointId.find(entry.committed or "")
        if head is None or found is None or any(bad.id == found for bad in head.quarantine):
            return None
        # Not listed any more because newer ones are: that is committed, too.
        return entry.committed if any(e.id >= found for e in head.checkpoints) else None

    def commit(
        self, seal: Seal, cause: str, interruption: dict[str, Any] | None, limits: Patience
    ) -> str:
        """List the checkpoint in head; uploads it first if need be. Returns its id.

        Waits while the lease is expired and the store away. Raises as ``upload``.
        """
        tenure = self.tenure()
        done = self.committed_id(seal)
        if done is not None:
            return done
        bytes_there = self.upload(seal, limits)
        manifest = self._manifest(bytes_there, cause)
        limits.retry(lambda: self._write_manifest(manifest, limits))
        entry = Listed(manifest.id, manifest.size, now_text(), cause)
        addition = fence.Addition(entry, interruption, self.job.retention, bytes_there.base)
        try:
            limits.retry(lambda: self._list(tenure, addition, limits))
        except fence.BaseGone:
            del self._uploads[seal.path, self.local.note(seal).mark]
            return self.commit(seal, cause, interruption, limits)
        self.bringing.committed(manifest)
        self._committed(seal, bytes_there.id)
        return str(bytes_there.id)

    def _manifest(self, bytes_there: Upload, cause: str) -> Manifest:
        return Manifest(
            self.job.name,
            require(self.heads.head, self.job.name).run_id,
            bytes_there.id,
            cause,
            now_text(),
            bytes_there.files,
            bytes_there.form,
        )

    def _write_manifest(self, manifest: Manifest, limits: Patience) -> None:
        self._await_valid(limits)
        write_manifest(self.backend, manifest)

    def _list(self, tenure: Tenure, addition: fence.Addition, limits: Patience) -> None:
        self._await_valid(limits)
        with self._fenced():
            self.heads.swap(
                lambda head: fence.commit(require(head, self.job.name), tenure, addition),
                self.leasing.confirm,
            )

    def _await_valid(self, limits: Patience) -> None:
        """Wait until the lease holds for certain. Raises LeaseLost when it never will again."""
        while not self.leasing.valid():
            self.leasing.held()
            try:
                self.leasing.renew()
            except StoreUnavailable as error:
                limits.trouble(error)
                limits.pause(self.job.terms.seconds / 10)
        limits.check()

    def _committed(self, seal: Seal, checkpoint: CheckpointId) -> None:
        # Swaps that got no answer are outdated by the one that just succeeded (sweep.py).
        self._uploads.clear()
        self.numbers.settled()
        self.local.committed(seal.path, str(checkpoint))
        self.local.trim()

    # ------------------------------------------------------------------ release

    def release(
        self,
        outcome: str,
        crashes: int,
        interruption: dict[str, Any] | None,
        limits: Patience,
    ) -> None:
        """Write into head how the attempt ended, then give the lease back.

        Nothing held is nothing to do. Raises LeaseLost, OutOfTime, StoreDenied; the lease is
        not renewed any more in any case.
        """
        if self.taken is None or self.leasing.lost is not None:
            self._let_go()
            return
        try:
            tenure = self.tenure()
            limits.retry(lambda: self._write_end(tenure, outcome, crashes, interruption))
            limits.retry(self.leasing.give_back)
        finally:
            self.taken = None
            self.leasing.tenure = None
            self.memory.forget()

    def _write_end(
        self, tenure: Tenure, outcome: str, crashes: int, interruption: dict[str, Any] | None
    ) -> None:
        with self._fenced():
            self.heads.swap(
                lambda head: fence.release(
                    require(head, self.job.name), tenure, outcome, crashes, interruption
                ),
                self.leasing.confirm,
            )
