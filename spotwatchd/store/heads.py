"""head.json in the store: read, swapped through the fence, rebuilt when unreadable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spotwatchd.core.fence import rebuild
from spotwatchd.core.head import Head, parse_head
from spotwatchd.errors import Conflict, Damaged, SpotwatchError, StoreUnavailable
from spotwatchd.store.base import Backend
from spotwatchd.store.layout import head_key
from spotwatchd.store.listing import complete_manifests
from spotwatchd.store.swap import new_nonce, swap

# Only this job's owners write head; each round lost is one of them, or a late write of ours.
_ROUNDS = 8


def read_head(backend: Backend, job: str) -> Head | None:
    """Head as it is now. Raises Damaged, StoreUnavailable, StoreDenied."""
    document = backend.read_document(head_key(job))
    if document is None:
        return None
    return parse_head(document.body, job, f"{backend.url}/{head_key(job)}")


class Heads:
    """The owner's view of head. One thread only.

    Attributes:
        head: as last read or written, or None.
    """

    def __init__(
        self, backend: Backend, job: str, run_id: str, alarm: Callable[[SpotwatchError], None]
    ) -> None:
        self.backend = backend
        self.job = job
        self.run_id = run_id
        self.head: Head | None = None
        self._alarm = alarm
        self._key = head_key(job)
        self._where = f"{backend.url}/{self._key}"
        self._version: str | None = None
        self._must_write = False
        self._told: str | None = None  # the version that was reported as unreadable

    def load(self) -> Head | None:
        """Read it. If it is unreadable, a head is made from the manifests (not yet written).

        Raises StoreUnavailable, StoreDenied (also for a head of a newer version).
        """
        document = self.backend.read_document(self._key)
        try:
            head = parse_head(document.body, self.job, self._where) if document else None
        except Damaged as error:
            head = self._rebuilt(error.what, document.version if document else "")
        if document is None and any(True for _ in complete_manifests(self.backend, self.job)):
            head = self._rebuilt("it is missing", "")
        self._note(head, document.version if document else None)
        return head

    def _rebuilt(self, reason: str, version: str) -> Head:
        head = rebuild(self.job, self.run_id, complete_manifests(self.backend, self.job))
        if version == self._told:
            return head
        self._told = version
        newest = f"step {head.checkpoints[-1].id.step:,}" if head.checkpoints else "none"
        self._alarm(
            Damaged(
                f"head.json is unreadable ({reason}); it is rebuilt from "
                f"{len(head.checkpoints)} manifests, newest checkpoint: {newest}",
                where=self._where,
                remedy="find out who wrote it: only spotwatchd may",
            )
        )
        return head

    def _note(self, head: Head | None, version: str | None) -> None:
        self.head = head
        self._version = version
        self._must_write = False

    def swap(self, change: Callable[[Head | None], Head], confirm: Callable[[], None]) -> Head:
        """Write ``change(head)``, again and again on newer heads until it holds or is refused.

        Args:
            change: a step of core/fence.py; it raises LeaseLost when the fence is closed.
            confirm: asks whether the lease is ours; called before a damaged or deleted head
                is replaced by the one last known.
        """
        for _ in range(_ROUNDS):
            changed = change(self.head)
            if changed == self.head and not self._must_write:
                return changed
            try:
                return self._write(changed)
            except Conflict:
                self._reload(confirm)
        raise StoreUnavailable("cannot swap head: it changes too fast", where=self._where)

    def touch(self, change: Callable[[Head | None], Head], confirm: Callable[[], None]) -> Head:
        """``swap`` that writes in any case: an older write that got no answer then cannot land."""
        self._must_write = True
        return self.swap(change, confirm)

    def _write(self, head: Head) -> Head:
        nonce = new_nonce()
        head = replace(head, written_by=nonce)
        version = swap(
            self.backend,
            self._key,
            head.encode(),
            self._version,
            lambda body: self._nonce(body) == nonce,
        )
        self._note(head, version)
        return head

    def _nonce(self, body: bytes) -> str:
        try:
            return parse_head(body, self.job, self._where).written_by
        except SpotwatchError:
            return ""

    def _reload(self, confirm: Callable[[], None]) -> None:
        known = self.head
        document = self.backend.read_document(self._key)
        version = document.version if document else None
        try:
            found = parse_head(document.body, self.job, self._where) if document else None
        except Damaged as error:
            self._alarm(error)
            found = None
        if found is None and known is not None:
            confirm()
            self._note(known, version)
            self._must_write = True
        else:
            self._note(found, version)
