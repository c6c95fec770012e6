"""What people want, written into head by machines that do not own the job.

``spotwatch stop`` must work on a job whose machine is off, or belongs to somebody who went
home. So every machine may write one field of head, ``wanted``, without the lease and
without the fence of core/fence.py. This is why that breaks none of the invariants:

* *A wish is not a commit.* ``want`` below changes ``wanted`` (and ``written_by``) of the head
  that was just read, and nothing else: no checkpoint enters or leaves the list, generation
  and tenure stay whose they were, the state stays as the owner wrote it. What restore, sweep
  and fence look at is the same before and after. (Invariants 1, 2, 3.)
* *Heads still form one line.* A wish is a conditional swap like any other. If an owner came
  between reading and writing, the wish is refused and said again on the newer head; if the
  wish came between an owner's reading and writing, the owner's swap is refused and its step
  is applied again to a head that differs in ``wanted`` alone. So neither loses what the
  other wrote, and every step of fence.py carries ``wanted`` along.
* *Each writer marks its head.* A wish gets a ``written_by`` of its own. With the owner's left
  in place, an owner whose answer was lost would find its nonce in a head that holds a wish
  it never read, take it for its own write, and overwrite the wish with its next one.
* *Only an owner acts.* A wish starts nothing and deletes nothing. The owner sees it when it
  next renews its lease or commits, asks the job to save, and ends it as on the machine
  itself; until then the job runs under a lease that is as good as before. (Invariant 4.)
  ``claim`` refuses a head on which a wish says no, in the very swap that would take it over:
  a machine that was off for a year and read nothing before cannot start what was stopped.
* *Wishes and ends cannot overtake each other.* ``running`` names the generation and the end
  that it was said about. A late release of the old owner (its answer was lost, it writes
  again) does not undo a start; the end of a later generation is not undone by an old wish;
  and a job that finishes although somebody stopped and started it meanwhile is finished.

Two people who want opposite things: the later swap counts, and both are told what is there.
"""

from __future__ import annotations

from dataclasses import replace

from spotwatchd.core.head import Head
from spotwatchd.core.wanted import REMOVED, RUNNING, STOPPED, Wanted
from spotwatchd.errors import JobError


def want(head: Head, wish: Wanted) -> Head:
    """``head`` with ``wish``, said at its generation. Idempotent by the wish's token.

    Raises JobError when the wish makes no sense for a job in this state.
    """
    if head.wanted is not None and head.wanted.token == wish.token:
        return head
    if wish.state != REMOVED:
        _check(head, wish)
    if wish.state == RUNNING and not head.halted:
        return head
    over = head.ended or STOPPED
    return replace(head, wanted=replace(wish, generation=head.generation, over=over))


def _check(head: Head, wish: Wanted) -> None:
    if head.wanted is not None and head.wanted.state == REMOVED:
        raise JobError(
            f"{head.job} is being removed ({told(head.wanted)})",
            where=head.job,
            remedy=f"spotwatch rm {head.job} --yes finishes it",
        )
    if wish.state != RUNNING and head.halted in ("finished", "crashed"):
        raise JobError(
            f"{head.job} is {head.halted} already",
            where=head.job,
            remedy=f"nothing to do; its objects go with: spotwatch rm {head.job}",
        )


def told(wish: Wanted) -> str:
    """Who wanted it, and when: for people."""
    return " ".join(filter(None, (f"by {wish.by}" if wish.by else "", wish.at))) or "by somebody"
