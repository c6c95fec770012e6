"""Connections that are kept warm, for any number of threads."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Iterator

from spotwatchd.store.base import Limits
from spotwatchd.store.s3http import Address, Answer, Body, Broken, Connection, Timeouts

# Servers close what is idle after 5 to 60 s, and say so; firewalls forget after minutes and
# do not, so what has been idle for longer is not trusted.
_IDLE = 30.0


class Pool:
    """Connections to one address. The last one that was used is the next to be used."""

    def __init__(self, address: Address, timeouts: Timeouts, most: int) -> None:
        self._address = address
        self._timeouts = timeouts
        self._most = most
        self._idle: list[Connection] = []
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    def warm(self, count: int, limits: Limits) -> None:
        """Have ``count`` connections ready. Raises Broken."""
        for _ in range(count - len(self._fresh_idle())):
            self._give_back(self._connect(limits))

    def _fresh_idle(self) -> list[Connection]:
        with self._lock:
            stale = [one for one in self._idle if _is_old(one)]
            self._idle[:] = [one for one in self._idle if one not in stale]
            kept = list(self._idle)
        _close_all(stale)
        return kept

    def _connect(self, limits: Limits) -> Connection:
        made = Connection(self._address, self._timeouts, limits)
        with self._lock:
            self._all.add(made)
        return made

    def unsent(self) -> int:
        """See s3client.Carrier."""
        with self._lock:
            present = list(self._all)
        return sum(connection.unsent() for connection in present)

    def _take(self) -> Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                found = self._idle.pop()
            if not _is_old(found):
                return found
            found.close()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if connection.reusable and len(self._idle) < self._most:
                self._idle.append(connection)
                return
        connection.close()

    @contextlib.contextmanager
    def request(
        self, head: bytes, body: Body, limits: Limits, *, once: bool = False
    ) -> Iterator[tuple[Connection, Answer]]:
        """Send a request (``once``: never twice); the answer's body is for the block to read.

        Raises Broken, Short, and what ``limits`` raises.
        """
        connection, answer = self._answered(head, body, limits, once)
        try:
            yield connection, answer
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)

    def _answered(
        self, head: bytes, body: Body, limits: Limits, once: bool
    ) -> tuple[Connection, Answer]:
        """What got no answer on a connection that had been idle is sent again on a new one.

        The other side may have closed it in the meantime.
        """
        idle = self._take()
        if idle is not None:
            try:
                return idle, _ask(idle, head, body, limits)
            except Broken as error:
                if once or not error.unanswered:
                    raise
        fresh = self._connect(limits)
        return fresh, _ask(fresh, head, body, limits)


def _ask(connection: Connection, head: bytes, body: Body, limits: Limits) -> Answer:
    try:
        return connection.request(head, body, limits)
    except BaseException:
        connection.close()
        raise


def _is_old(connection: Connection) -> bool:
    return time.monotonic() - connection.idle_since > _IDLE or connection.is_stale()


def _close_all(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
