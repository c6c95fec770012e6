"""Looking after a job that this machine has no room for: who has it, and whether it has ended.

Nothing is taken. A machine with a queue must know which of the jobs in it wait in earnest:
one that another machine runs holds nobody up.
"""

from __future__ import annotations

from collections.abc import Callable

from spotwatchd.store.custody import Custody
from spotwatchd.store.heads import read_head
from spotwatchd.store.jobs import announce
from spotwatchd.store.patience import Patience

# Two small reads each: the queue's order may be this much behind another machine's deeds.
_LOOK_EVERY = 5.0


def watch(
    custody: Custody, limits: Patience, tell: Callable[[bool, str], None], *, fresh: bool
) -> None:
    """Tell (somebody else has it, how it ended) at once and at each change, until cancelled.

    Args:
        custody: of the job, which is not taken.
        limits: ends it.
        tell: gets what was found.
        fresh: it never ran, so the store is told of it: a machine with room may find it.

    Raises Cancelled, Damaged, StoreDenied.
    """
    if fresh:
        limits.retry(lambda: announce(custody.backend, custody.job.spec))
    said: tuple[bool, str] | None = None
    while True:
        found = limits.retry(lambda: _look(custody))
        if found != said:
            tell(*found)
            said = found
        limits.pause(min(_LOOK_EVERY, custody.job.terms.seconds / 3))


def _look(custody: Custody) -> tuple[bool, str]:
    head = read_head(custody.backend, custody.job.name)
    return not custody.leasing.is_free(), head.halted if head is not None else ""
