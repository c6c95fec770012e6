"""Deleting what nobody can want again, without ever deleting what somebody does.

A sweeper may be stopped (SIGSTOP, a frozen machine, a page fault) between any two of its
steps, for any time, while other owners take the job, commit, and restore. It has these
steps, and this is why no pause between them does harm. Let it be the owner of generation G.

1. *Un-list.* Commits of generation G swap a head that no longer lists X (core/fence.py).
2. *See.* The sweeper reads head, finds G there, and lists what the store has. X is unlisted:
   in the store, not in that head, of a generation not above G, and not being written by this
   process. It notes when it first saw that, and waits the grace period for readers.
3. *Mark.* It writes X/.removed.
4. *Check.* It reads head, then every manifest that the store has, then head again. Only if
   both times head was the same one, of (G, its tenure), and does not list X, it goes on.
5. *Delete.* MANIFEST.json first, then the files, the mark last. Files of X that one of those
   manifests refers to stay (core/manifest.py: ``in``); when no referring checkpoint is in the
   store any more, X is looked at again.

Can a head ever list X after step 4? A head is written in two ways:

* *From the head before it*, by a conditional swap. Heads form one line. The head of step 4
  does not list X, and a swap adds one id only: a new one, of the writer's own generation and
  a sequence number it never used. An owner of a later generation therefore inherits a list
  without X and never adds X. Nor does this owner, for the ids it writes count as "being
  written" from before their first byte until they are committed, or given up for good: that
  is, when the upload failed before any head named it, or when a later swap of this owner
  succeeded, because until then an earlier swap that got no answer might still land. (A
  replicator that is started again in the same tenure swaps head once before it sweeps.)
* *Rebuilt from manifests*, when head is unreadable. The rebuild reads the store after head
  became unreadable; step 4 read a good head of generation G, so it came before that, and
  step 3 before step 4. The rebuild therefore sees the mark and leaves X out. If step 4 comes
  after the rebuild it finds a generation above G, or an unreadable head, and deletes nothing.

So whatever is deleted after step 4 is listed by no head, now or later. A mark that was written
for nothing (step 4 said no) keeps X out of rebuilt heads and does no other harm: a rebuild
that already lists X took place before, and resumes look at head, not at marks.

Can a checkpoint M that is listed, now or later, refer to a file of X that is deleted? A
reference is found through a *base*: a listed checkpoint that has the file itself or whose
manifest refers to it. The swap that adds M is refused unless its base is listed in the very
head that it follows (core/fence.py: commit). Let K be the head of step 4.

* M is listed in K. Then its manifest was written before K was, and so before the manifests
  were read: the file stays.
* M is added by a later swap. Follow the bases from M back to X: M, its base, the base of that
  one, and so on. X, the last, is not listed in K nor ever after. Take the last one that was
  added after K. Its base was listed when it was added, after K; ids do not come back, so the
  base is listed in K. It is not X. So it refers to the file, its manifest was read: it stays.
* M is listed by a rebuild, which comes after K. If its manifest was read in step 4, the file
  stays. If it was written later and committed, see above. If it was written later and never
  committed: by this owner with a base that its head listed, K or a later one, see above.

One case is left, and takes three accidents at once: an owner that was fenced long ago writes a
manifest after all, this sweeper is stopped in step 5, and head becomes unreadable. The rebuilt
head may then list a checkpoint that lacks a file. Restore finds that and goes to the one before.

An older owner's uploads may still arrive for X while or after it is deleted: that leaves a few
objects under an unlisted id, which a later sweep of a later owner finds.

Uploads that were begun and never ended are invisible, but some stores bill them. Those of ids
that nobody can commit any more (an older generation, or this one and not in use) are aborted
after the same grace period.
"""

from __future__ import annotations

from collections.abc import Callable

from spotwatchd.core.fence import fence
from spotwatchd.core.head import Head
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Tenure
from spotwatchd.core.manifest import MANIFEST, REMOVED
from spotwatchd.core.retention import ripe, unlisted
from spotwatchd.errors import LeaseLost
from spotwatchd.store.abandoned import AbandonedUploads
from spotwatchd.store.base import Backend
from spotwatchd.store.heads import read_head
from spotwatchd.store.layout import checkpoint_prefix, removed_key
from spotwatchd.store.listing import stored_ids
from spotwatchd.store.references import References
from spotwatchd.store.swap import boottime

# S3 deletes 1,000 keys a request; smaller batches let a stopped sweeper look up sooner.
_BATCH = 500


class Sweeper:
    """Deletes unlisted checkpoints of one job. One thread; ``run`` is called now and then.

    Args:
        tenure: the tenure to act under; raises LeaseLost when there is none.
        in_progress: the ids that this process is writing.
    """

    def __init__(
        self,
        backend: Backend,
        job: str,
        grace: float,
        tenure: Callable[[], Tenure],
        in_progress: Callable[[], frozenset[CheckpointId]],
    ) -> None:
        self.backend = backend
        self.job = job
        self.grace = grace
        self._tenure = tenure
        self._in_progress = in_progress
        self._first_seen: dict[CheckpointId, float] = {}
        # Some servers list a folder for a while after its last object is gone.
        self._empty: set[CheckpointId] = set()
        self._references = References(backend, job)
        # Unlisted ones of which something is needed, and by whom.
        self._needed_by: dict[CheckpointId, frozenset[CheckpointId]] = {}
        self._uploads = AbandonedUploads(backend, job, grace, in_progress)

    def run(self) -> list[CheckpointId]:
        """Look once; delete what is ripe. Returns what was deleted.

        Raises LeaseLost, StoreUnavailable, StoreDenied, Damaged (head).
        """
        tenure = self._tenure()
        found = self._look(tenure)
        now = boottime()
        self._first_seen = {each: self._first_seen.get(each, now) for each in found}
        ready = ripe(self._first_seen, boottime(), self.grace)
        deleted = [checkpoint for checkpoint in ready if self._delete(tenure, checkpoint)]
        self._uploads.run(tenure)
        return deleted

    def next_run(self) -> float | None:
        """When something will be ripe, CLOCK_BOOTTIME seconds; None: nothing is waiting."""
        dues = [since + self.grace for since in self._first_seen.values()]
        return min([*dues, *self._uploads.next_runs()], default=None)

    def _look(self, tenure: Tenure) -> set[CheckpointId]:
        # The store first: an upload that begins after this is not in it, and one that ended
        # before is in the head that is read next.
        stored = stored_ids(self.backend, self.job)
        busy = self._in_progress()
        head = read_head(self.backend, self.job)
        if head is None:
            raise LeaseLost(f"head of {self.job} is gone", where=self.backend.url)
        fence(head, tenure)
        self._forget(set(stored))
        return unlisted(stored, head, in_progress=busy) - self._empty - self._needed_by.keys()

    def _forget(self, stored: set[CheckpointId]) -> None:
        """Remember nothing of what the store does not show any more."""
        self._empty &= stored
        there = stored - self._empty
        self._needed_by = {
            checkpoint: others
            for checkpoint, others in self._needed_by.items()
            if checkpoint in there and others & there
        }

    def _delete(self, tenure: Tenure, checkpoint: CheckpointId) -> bool:
        """Whether it is gone, as far as nobody needs it."""
        prefix = checkpoint_prefix(self.job, checkpoint)
        if not any(True for _ in self.backend.objects(prefix)):
            self._done(checkpoint, frozenset())
            return False
        self.backend.put_bytes(removed_key(self.job, checkpoint), b"")
        before = self._check(tenure, checkpoint)
        needed = self._references.to(checkpoint)
        if self._check(tenure, checkpoint) != before:
            return False  # head has moved on meanwhile: another time
        self._references.forget(checkpoint)
        self._remove(prefix, {f"{prefix}/{path}" for path in needed})
        self._done(checkpoint, frozenset().union(*needed.values()))
        return True

    def _done(self, checkpoint: CheckpointId, needed_by: frozenset[CheckpointId]) -> None:
        del self._first_seen[checkpoint]
        if needed_by:
            self._needed_by[checkpoint] = needed_by
        else:
            self._empty.add(checkpoint)

    def _remove(self, prefix: str, needed: set[str]) -> None:
        keys = [info.key for info in self.backend.objects(prefix)]
        mark, manifest = f"{prefix}/{REMOVED}", f"{prefix}/{MANIFEST}"
        self.backend.delete([manifest])
        rest = [key for key in keys if key not in (mark, manifest) and key not in needed]
        for start in range(0, len(rest), _BATCH):
            self.backend.delete(rest[start : start + _BATCH])
        self.backend.delete([mark])

    def _check(self, tenure: Tenure, checkpoint: CheckpointId) -> Head:
        head = read_head(self.backend, self.job)
        if head is None:
            raise LeaseLost(f"head of {self.job} is gone", where=self.backend.url)
        fence(head, tenure)
        if checkpoint not in unlisted([checkpoint], head, in_progress=self._in_progress()):
            raise LeaseLost(f"{checkpoint} is listed again", where=self.backend.url)
        return head
