"""Wishes in head.json: said by anybody, seen by the owner (rules: core/intent.py)."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from spotwatchd.core.head import Head, parse_head
from spotwatchd.core.intent import want
from spotwatchd.core.wanted import RUNNING, Wanted
from spotwatchd.errors import Conflict, JobError, StoreUnavailable
from spotwatchd.store.base import Backend
from spotwatchd.store.custody import Custody
from spotwatchd.store.layout import head_key
from spotwatchd.store.patience import Patience
from spotwatchd.store.resuming import now_text
from spotwatchd.store.swap import boottime, new_nonce, swap

# A person waits for the answer; the store has failed several times by then.
_LIMIT = 20.0
_ROUNDS = 20


def wish(state: str, *, save: bool = True) -> Wanted:
    """A wish of whoever runs this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.geteuid())
    by = f"{user}@{socket.gethostname()}"
    return Wanted(state, 0, new_nonce(), save=save, by=by, at=now_text())


def say(backend: Backend, job: str, wanted: Wanted) -> Head:
    """Write the wish into head; returns the head as it is then.

    Raises JobError (no such job, or no sense in its state), StoreUnavailable, StoreDenied,
    Damaged, OutOfTime.
    """
    limits = Patience(deadline=boottime() + _LIMIT)
    for _ in range(_ROUNDS):
        try:
            return limits.retry(lambda: _say_once(backend, job, wanted))
        except Conflict:
            continue  # its owner came first: say it again on the newer head
    raise StoreUnavailable("cannot write the wish: head changes too fast", where=head_key(job))


def _say_once(backend: Backend, job: str, wanted: Wanted) -> Head:
    document = backend.read_document(head_key(job))
    if document is None:
        raise JobError(
            f"no job {job} in {backend.url}",
            where=f"{backend.url}/{head_key(job)}",
            remedy="spotwatch status lists the jobs of a machine; check the name and the store",
        )
    head = parse_head(document.body, job, f"{backend.url}/{head_key(job)}")
    wished = want(head, wanted)
    if wished == head:
        return head
    wished = replace(wished, written_by=new_nonce())

    def is_mine(body: bytes) -> bool:
        return wanted.token.encode() in body

    swap(backend, head_key(job), wished.encode(), document.version, is_mine)
    return wished


class Wishes:
    """What the owner of a job sees of them. ``look`` may be called from any thread."""

    def __init__(self, custody: Custody, send: Callable[[dict[str, Any]], None]) -> None:
        self._custody = custody
        self._send = send
        self._told = ""
        self._now: Wanted | None = None

    def look(self, head: Head | None) -> None:
        """Tell the daemon of a wish in a head of ours that speaks against running."""
        self._now = wanted = self._against(head)
        if wanted is not None and wanted.token != self._told:
            self._told = wanted.token
            self._send({"event": "wanted", **wanted.document()})

    def document(self) -> dict[str, Any] | None:
        """For ``hello``: a daemon that was away must hear of it, too."""
        return None if self._now is None else self._now.document()

    def _against(self, head: Head | None) -> Wanted | None:
        taken = self._custody.taken
        if head is None or head.wanted is None or taken is None or taken.ended:
            return None
        return head.wanted if head.wanted.state != RUNNING else None
