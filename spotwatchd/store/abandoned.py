"""Uploads whose owner died: aborted, because some stores bill the parts and none shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Tenure
from spotwatchd.store.base import Backend
from spotwatchd.store.layout import checkpoints_prefix
from spotwatchd.store.swap import boottime

# They do not hurry; a listing a minute costs nobody anything.
_EVERY = 60.0


class AbandonedUploads:
    """Finds and aborts them. One thread.

    Args:
        grace: seconds for which one must have been seen, by this machine's own clock.
        in_progress: the ids that this process may yet commit.
    """

    def __init__(
        self,
        backend: Backend,
        job: str,
        grace: float,
        in_progress: Callable[[], frozenset[CheckpointId]],
    ) -> None:
        self._backend = backend
        self._prefix = checkpoints_prefix(job)
        self._grace = grace
        self._in_progress = in_progress
        self._first_seen: dict[tuple[str, str], float] = {}
        self._token = ""
        self._next = 0.0

    def next_runs(self) -> Iterator[float]:
        """When those that were seen may go, CLOCK_BOOTTIME seconds."""
        return (since + self._grace for since in self._first_seen.values())

    def run(self, tenure: Tenure) -> int:
        """Look, if it is time to; returns how many were aborted.

        The caller has just seen ``tenure`` in head: nobody of its generation or below can
        commit but this process. Raises StoreUnavailable, StoreDenied.
        """
        if tenure.token != self._token:
            self._token, self._next = tenure.token, 0.0
        now = boottime()
        if now < min([self._next, *self.next_runs()]):
            return 0
        self._next = now + _EVERY
        found = self._abandoned(tenure)
        self._first_seen = {each: self._first_seen.get(each, now) for each in found}
        ready = [each for each, since in self._first_seen.items() if now - since >= self._grace]
        for key, upload in ready:
            self._backend.abort(key, upload)
            del self._first_seen[key, upload]
        return len(ready)

    def _abandoned(self, tenure: Tenure) -> list[tuple[str, str]]:
        """Listed first, then what is in use: what begins meanwhile is not in the list."""
        uploads = [(key, upload) for key, upload, _ in self._backend.open_uploads(self._prefix)]
        busy = self._in_progress()
        return [
            (key, upload)
            for key, upload in uploads
            if (checkpoint := self._checkpoint(key)) is not None
            and checkpoint not in busy
            and checkpoint.generation <= tenure.generation
        ]

    def _checkpoint(self, key: str) -> CheckpointId | None:
        return CheckpointId.find(key.removeprefix(f"{self._prefix}/").partition("/")[0])
