"""The limits of the operation that this thread is in the middle of.

Documents are asked for by many small steps, none of which has limits of its own: they belong
to whatever is tried again as a whole (Patience.retry), and must end with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from spotwatchd.store.base import Limits

_LIMITS: ContextVar[Limits | None] = ContextVar("limits", default=None)


@contextlib.contextmanager
def within(limits: Limits) -> Iterator[None]:
    """Requests for documents of this thread end with ``limits`` from now on."""
    token = _LIMITS.set(limits)
    try:
        yield
    finally:
        _LIMITS.reset(token)


# An answer that is lost must leave time to ask again, and to look what became of the question.
_SHARE = 4
_LEAST = 1.0


class Underway:
    """See base.Limits: those of the operation that this thread is in, if it is in one."""

    def check(self) -> None:
        """See base.Limits."""
        limits = _LIMITS.get()
        if limits is not None:
            limits.check()

    def left(self, most: float) -> float:
        """See base.Limits: a share of it."""
        limits = _LIMITS.get()
        if limits is None:
            return most
        return limits.left(max(_LEAST, limits.left(most * _SHARE) / _SHARE))

    def spend(self, size: int) -> None:  # noqa: ARG002 - what paces a checkpoint's bytes holds no document back
        """See base.Limits."""
        self.check()
