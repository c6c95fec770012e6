"""Conditional writes whose answer may be lost.

After a refusal (409, 412) or no answer at all (5xx, time-out) the document is read back: the
write has succeeded if it is there. A refusal can be about our own write, when a library or
a proxy repeated it; silence says nothing either way.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from spotwatchd.errors import Conflict, StoreUnavailable
from spotwatchd.store.base import Backend


def boottime() -> float:
    """The machine's clock: it counts sleep, and nobody sets it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def new_nonce() -> str:
    """128 random bits: never the same twice, on any machine."""
    return secrets.token_hex(16)


def swap(
    backend: Backend,
    key: str,
    body: bytes,
    expected: str | None,
    is_mine: Callable[[bytes], bool],
) -> str:
    """Write ``body`` after version ``expected``; returns the new version's token.

    Raises:
        Conflict: another writer came first, and what is there is not ours.
        StoreUnavailable: nobody knows. The write may still land later, if nothing else does.
        StoreDenied: the answer is no.
    """
    try:
        return backend.write_document(key, body, expected)
    except (Conflict, StoreUnavailable):
        # Once: who calls tries the whole again, and a second write may get through sooner.
        found = backend.read_document(key, once=True)
        if found is not None and is_mine(found.body):
            return found.version
        raise
