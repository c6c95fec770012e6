"""``spotwatch rm``: a job's objects go, and nothing else.

1. *Say so.* The wish ``removed`` in head: from now on nobody begins an attempt, and an owner
   stops (core/intent.py).
2. *Own it.* Take the lease as every other owner does, and claim head: whoever had it, and
   sleeps, is fenced and commits nothing any more.
3. *Delete.* Checkpoints (each manifest before its files), logs, whatever else lies below the
   job's folder; then the spec, then head, the lease last.

Cut off anywhere, the same command begins again and finds less to do. While head is there it
says ``removed``; once it is gone the lease still says who is at work. An owner that slept
through all of it finds neither lease nor head, and takes that for what it is: see
Leasing._read_back. Prefixes end with a slash, so that ``net`` never takes ``net2`` along.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator

from spotwatchd.core import fence
from spotwatchd.core.head import Head
from spotwatchd.core.lease import Owner, Tenure, Terms
from spotwatchd.core.manifest import MANIFEST
from spotwatchd.core.wanted import REMOVED
from spotwatchd.errors import JobError, LeaseLost
from spotwatchd.store.base import Backend
from spotwatchd.store.heads import Heads
from spotwatchd.store.layout import checkpoints_prefix, head_key, lease_key, spec_key
from spotwatchd.store.leasing import Leasing
from spotwatchd.store.listing import stored_ids
from spotwatchd.store.patience import Patience
from spotwatchd.store.wishing import say, wish

# As long as the daemon's own default; a machine that removes jobs is seldom taken away.
_LEASE_SECONDS = 30.0
_BATCH = 500
_LOOK_EVERY = 1.0


class Removal:
    """One removal.

    Args:
        backend: the store.
        job: to be removed.
        tell: one line for people when it has to wait for the owner.
    """

    def __init__(self, backend: Backend, job: str, tell: Callable[[str], None]) -> None:
        self.backend = backend
        self.job = job
        self._tell = tell
        # Like a later boot of the same machine: one that was cut off here is followed at once.
        host = socket.gethostname()
        owner = Owner(f"rm on {host}", uuid.uuid4().hex, host)
        self._leasing = Leasing(backend, job, owner, Terms.of(_LEASE_SECONDS))
        self._heads = Heads(backend, job, "removed", lambda _: None)

    def run(self) -> int:
        """Do it. Returns how many objects were deleted.

        Raises JobError (there is no such job), LeaseLost (another removal is at work),
        StoreUnavailable, StoreDenied, Damaged.
        """
        self._say()
        tenure = self._win()
        self._heads.load()
        self._heads.swap(
            lambda head: fence.claim(head, tenure, self.job, "removed", to_remove=True),
            self._leasing.confirm,
        )
        deleted = 0
        for batch in self._batches():
            self._check(tenure)
            self.backend.delete(batch)
            deleted += len(batch)
        self.backend.delete([head_key(self.job)])
        self.backend.delete([lease_key(self.job)])
        return deleted + 2

    def _say(self) -> None:
        try:
            say(self.backend, self.job, wish(REMOVED, save=False))
        except JobError:
            # No head: nothing was ever claimed, or a removal was cut off near its end.
            if not any(True for _ in self.backend.objects(self.job)):
                raise

    def _win(self) -> Tenure:
        limits = Patience()
        told = False
        while True:
            found = limits.retry(lambda: self._leasing.try_take(self._generation_after))
            if isinstance(found, Tenure):
                return found
            if found.owner is not None and not told:
                told = True
                owner = found.owner.host or found.owner.machine
                self._tell(f"waits until {owner} has stopped it ({found.seconds:.0f} s at most)")
            limits.pause(min(max(found.seconds, 0.05), _LOOK_EVERY))

    def _generation_after(self, lease_generation: int) -> int:
        head = self._heads.load()
        stored = stored_ids(self.backend, self.job)
        return fence.next_generation(lease_generation, head, stored)

    def _batches(self) -> Iterator[list[str]]:
        """Keys to delete, in the order that is safe; head and lease are left out."""
        last = {head_key(self.job), lease_key(self.job), spec_key(self.job)}
        keys = [info.key for info in self.backend.objects(self.job) if info.key not in last]
        manifests = f"{checkpoints_prefix(self.job)}/"
        first = [k for k in keys if k.startswith(manifests) and k.endswith(f"/{MANIFEST}")]
        rest = sorted(set(keys) - set(first))
        for some in (first, rest, [spec_key(self.job)]):
            for start in range(0, len(some), _BATCH):
                yield some[start : start + _BATCH]

    def _check(self, tenure: Tenure) -> None:
        """Still ours? A batch may take long, and this process may have slept."""
        self._leasing.renew()
        head: Head | None = self._heads.load()
        if head is None:
            raise LeaseLost(f"somebody else removed {self.job}", where=self.backend.url)
        fence.fence(head, tenure)
