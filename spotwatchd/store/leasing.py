"""The lease of one job in the store: taken, renewed, given back (rules: core/lease.py).

Called from two threads: the worker takes and gives back, the renewer renews.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from spotwatchd.core.fence import lost
from spotwatchd.core.lease import (
    Lease,
    Owner,
    Sighting,
    Tenure,
    Terms,
    at_once,
    look,
    may_take,
    parse_lease,
)
from spotwatchd.errors import Conflict, Damaged, LeaseLost, SpotwatchError, StoreUnavailable
from spotwatchd.store.base import Backend, Document
from spotwatchd.store.layout import head_key, lease_key
from spotwatchd.store.swap import boottime, new_nonce, swap

# One refusal may be about a write of ours that landed late; a second one is another owner.
_RENEW_ROUNDS = 3


@dataclass(frozen=True)
class Waiting:
    """Somebody else's lease, and how many seconds it takes at most (0: look again now)."""

    owner: Owner | None
    seconds: float


class Leasing:
    """This process's part in the lease of ``job``.

    Attributes:
        tenure: what is held, or None. Held is not yet valid: see ``valid``.
        lost: why it is lost for good, or None.
        previous: the owner before, when it was another machine.
    """

    def __init__(  # noqa: PLR0913 - what it stands on, and whom it tells
        self,
        backend: Backend,
        job: str,
        me: Owner,
        terms: Terms,
        *,
        remember: Callable[[int, str], None] = lambda _generation, _token: None,
        alarm: Callable[[SpotwatchError], None] = lambda _: None,
    ) -> None:
        self.backend = backend
        self.job = job
        self.me = me
        self.terms = terms
        self.tenure: Tenure | None = None
        self.lost: LeaseLost | None = None
        self.previous: Owner | None = None
        self._remember = remember
        self._alarm = alarm
        self._key = lease_key(job)
        self._where = f"{backend.url}/{self._key}"
        self._lock = threading.RLock()
        self._version: str | None = None
        self._seen: Sighting | None = None
        self._told = ""  # the version that was reported as unreadable
        # Writes whose answer may be outstanding: nonce -> when it was sent. One that lands
        # late counts from when it was sent, not from when it was found.
        self._sent: dict[str, float] = {}
        self._tried: set[str] = set()

    def valid(self) -> bool:
        """Whether no other owner can exist now."""
        tenure = self.tenure
        return tenure is not None and not self.lost and tenure.valid(boottime(), self.terms)

    def held(self) -> Tenure:
        """The tenure, valid or expired but not known to be lost. Raises LeaseLost."""
        if self.lost is not None:
            raise self.lost
        if self.tenure is None:
            raise LeaseLost(f"this machine has not taken {self.job}", where=self._where)
        return self.tenure

    def try_take(self, generation_after: Callable[[int], int]) -> Tenure | Waiting:
        """Look once, and take the lease if it is free. Never waits.

        Args:
            generation_after: from the generation in the lease (0: none) to the new one.

        Raises:
            StoreUnavailable: try again; a write that lands late is recognised then.
        """
        with self._lock:
            if self.tenure is not None and self.lost is None:
                return self.tenure
            document = self.backend.read_document(self._key)
            lease = self._parse(document)
            if lease is not None and lease.held and lease.tenure in self._tried:
                return self._found(lease, document)
            waiting = self._must_wait(document, lease)
            if waiting is not None:
                return waiting
            other = lease is not None and lease.owner.machine != self.me.machine
            self.previous = lease.owner if lease is not None and other else None
            generation = generation_after(lease.generation if lease else 0)
            return self._take(generation, document.version if document else None)

    def is_free(self) -> bool:
        """Whether ``try_take`` would take it now."""
        with self._lock:
            document = self.backend.read_document(self._key)
            return self._must_wait(document, self._parse(document)) is None

    def _parse(self, document: Document | None) -> Lease | None:
        if document is None:
            return None
        try:
            return parse_lease(document.body, self.job, self._where)
        except Damaged as error:
            if document.version != self._told:
                self._told = document.version
                self._alarm(error)
            return None

    def _must_wait(self, document: Document | None, lease: Lease | None) -> Waiting | None:
        if document is None or (lease is not None and at_once(lease, self.me)):
            return None
        # An unreadable lease may be a live owner's: wait for its bytes as for a nonce.
        nonce = lease.nonce if lease else hashlib.sha256(document.body).hexdigest()
        seconds = lease.seconds if lease else self.terms.seconds
        now = boottime()
        self._seen = look(self._seen, nonce, seconds, now)
        if may_take(self._seen, now):
            return None
        return Waiting(lease.owner if lease else None, self._seen.over - now)

    def _take(self, generation: int, expected: str | None) -> Tenure | Waiting:
        token = new_nonce()
        self._remember(generation, token)
        self._tried.add(token)
        self._sent.clear()
        tenure = Tenure(generation, token)
        try:
            self._write(tenure, expected, held=True)
        except Conflict:
            return Waiting(None, 0.0)
        self.lost = None
        self._seen = None
        assert self.tenure is not None  # noqa: S101 - _write has just set it
        return self.tenure

    def _found(self, lease: Lease, document: Document | None) -> Tenure:
        """A take of ours whose answer was lost."""
        self._version = document.version if document else None
        self.lost = None
        self.tenure = Tenure(lease.generation, lease.tenure, self._sent.get(lease.nonce))
        return self.tenure

    def _write(self, tenure: Tenure, expected: str | None, *, held: bool) -> None:
        nonce = new_nonce()
        lease = Lease(
            job=self.job,
            owner=self.me,
            generation=tenure.generation,
            seconds=self.terms.seconds,
            nonce=nonce,
            held=held,
            tenure=tenure.token,
        )
        self._sent[nonce] = sent_at = boottime()
        self._version = swap(
            self.backend, self._key, lease.encode(), expected, lambda body: self._is(body, nonce)
        )
        self._sent.clear()
        self.tenure = tenure.renewed(sent_at)

    def _is(self, body: bytes, nonce: str) -> bool:
        try:
            return parse_lease(body, self.job, self._where).nonce == nonce
        except SpotwatchError:
            return False

    def adopt(self, generation: int, token: str) -> bool:
        """Go on with the lease of an earlier life of this process, if it is still there.

        Only for a process that knows the earlier one is dead (the lock in runtime_dir).
        """
        with self._lock:
            self._tried.add(token)
            document = self.backend.read_document(self._key)
            lease = self._parse(document)
            if document is None or lease is None or not lease.held or lease.tenure != token:
                return False
            if lease.generation != generation:
                return False
            self._found(lease, document)
            self.renew()
            return True

    def renew(self) -> None:
        """Extend the lease, expired or not, unless somebody else has it.

        Raises:
            LeaseLost: somebody else has it, or had it.
            StoreUnavailable: try again.
        """
        with self._lock:
            if self.tenure is None or self.lost is not None:
                return
            for _ in range(_RENEW_ROUNDS):
                if self._renew_once(self.tenure):
                    return
            raise StoreUnavailable("cannot renew the lease: it changes too fast", where=self._where)

    def _renew_once(self, tenure: Tenure) -> bool:
        try:
            self._write(tenure, self._version, held=True)
        except (Conflict, StoreUnavailable):
            return self._read_back()
        return True

    def _read_back(self) -> bool:
        """Look at what is there. True: one of our own renewals; False: write again."""
        tenure = self.held()
        document = self.backend.read_document(self._key)
        lease = self._parse(document)
        self._version = document.version if document else None
        if document is None and self.backend.read_document(head_key(self.job)) is None:
            # Neither lease nor head: that was no accident (store/removal.py).
            self.lose(LeaseLost(f"the job {self.job} was removed", where=self._where))
        if lease is None:
            return False  # deleted or damaged: the next write replaces it, or loses to a taker
        if (lease.generation, lease.tenure) != (tenure.generation, tenure.token):
            self.lose(lost(self.job, tenure.generation, lease.generation))
        sent_at = self._sent.get(lease.nonce)
        if sent_at is None:
            return False
        self.tenure = tenure.renewed(sent_at)
        self._sent.clear()
        return True

    def lose(self, error: LeaseLost) -> None:
        """Note that it is lost, and raise it."""
        self.lost = error
        raise error

    def confirm(self) -> None:
        """Ask the store whether the lease is still ours. Raises LeaseLost, StoreUnavailable."""
        with self._lock:
            self.held()
            self._read_back()

    def give_back(self) -> None:
        """Let the next owner have it at once.

        Raises:
            LeaseLost: somebody else has it already.
            StoreUnavailable: try again, or set ``tenure`` to None and let it run out.
        """
        with self._lock:
            tenure = self.held()
            for _ in range(_RENEW_ROUNDS):
                with contextlib.suppress(Conflict):
                    self._write(tenure, self._version, held=False)
                    self.tenure = None
                    return
                self._read_back()
            raise StoreUnavailable("cannot give the lease back", where=self._where)
