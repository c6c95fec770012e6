"""How head may change, and who may change it: pure steps, written by conditional swaps.

The fence is the pair (generation, tenure) in head. Each step below takes the head that was
just read and refuses (LeaseLost) unless the pair is the caller's; the swap then succeeds
only if head has not changed since. So whatever an owner believed a moment ago, however
long it slept between reading and writing: once a newer owner has claimed head, the older
one changes nothing, and the newer one starts from everything the older one committed.

Each step is idempotent: applied to its own result it gives that result again. A writer that
lost an answer can therefore read back and simply try again.

One field is written by machines that own nothing: ``wanted``. Core/intent.py says why it may.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from spotwatchd.core.head import Head, Listed, Quarantined
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.lease import Tenure
from spotwatchd.core.manifest import Manifest
from spotwatchd.core.retention import Retention
from spotwatchd.errors import LeaseLost, SpotwatchError

_STATE_AFTER = {
    "finished": "finished",
    "preempted": "interrupted",
    "crashed": "crashed",
    "stopped": "stopped",
}
OUTCOMES = tuple(_STATE_AFTER)


def lost(job: str, mine: int, found: int) -> LeaseLost:
    """The error for an owner that finds another one."""
    return LeaseLost(
        f"another owner has {job}: head is at generation {found}, this one had {mine}",
        where=job,
        remedy="nothing to do: the job runs elsewhere, and nothing was changed here",
    )


def fence(head: Head, tenure: Tenure) -> None:
    """Raise LeaseLost unless ``head`` is ``tenure``'s."""
    if (head.generation, head.tenure) != (tenure.generation, tenure.token):
        raise lost(head.job, tenure.generation, head.generation)


class Halted(Exception):
    """The job is not to be begun. ``head`` says why."""

    def __init__(self, head: Head) -> None:
        super().__init__(head.halted)
        self.head = head


def claim(  # noqa: PLR0913 - the whole of a take
    head: Head | None,
    tenure: Tenure,
    job: str,
    run_id: str,
    *,
    replaces: str = "",
    to_remove: bool = False,
) -> Head:
    """Take head over, or begin it. A head of the same or a higher generation is not touched.

    Args:
        head: as it is.
        tenure: of the caller.
        job: its name.
        run_id: of a head that is begun.
        replaces: the run that ``run_id`` takes the place of, "" for none. A head of any other
            run goes on as it is: what was to be replaced is replaced already.
        to_remove: the caller begins nothing: it only wants everybody else to be fenced.

    Raises LeaseLost, Halted.
    """
    if head is None:
        head = Head(job=job, run_id=run_id, generation=0)
    if (head.generation, head.tenure) == (tenure.generation, tenure.token):
        return head
    if head.generation >= tenure.generation:
        raise lost(job, tenure.generation, head.generation)
    if head.halted and not to_remove:
        raise Halted(head)
    if replaces and head.run_id == replaces:
        head = anew(head, run_id)
    return replace(
        head,
        generation=tenure.generation,
        tenure=tenure.token,
        attempts=head.attempts + 1,
        # An end that a wish to run outdated is over, and so are the crashes that led to it.
        crashes=0 if head.ended else head.crashes,
        state="running",
    )


def anew(head: Head, run_id: str) -> Head:
    """The head of another run: it starts from nothing, and what was committed stays for now.

    The old checkpoints are not un-listed here but set aside: until the new run has committed,
    they are all there is, and somebody may have begun it by mistake.
    """
    return replace(
        head,
        run_id=run_id,
        retired=(*head.retired, *head.checkpoints),
        checkpoints=(),
        crashes=0,
        interruption=None,
    )


@dataclass(frozen=True)
class Addition:
    """A checkpoint to list, and what the machine was going through when it was saved.

    Attributes:
        base: the listed checkpoint through which it found the objects of earlier ones that it
            refers to; None: it refers to none.
    """

    entry: Listed
    interruption: dict[str, Any] | None
    retention: Retention
    base: CheckpointId | None = None


class BaseGone(SpotwatchError):
    """What the new checkpoint refers to may be deleted already: store it whole."""


def commit(head: Head, tenure: Tenure, addition: Addition) -> Head:
    """List a checkpoint, and un-list what retention no longer keeps, in one step.

    Un-listing together with a newer commit is what makes "a committed checkpoint goes only
    after a newer one is committed" true at every instant. Raises BaseGone unless the base is
    listed in this very head: the proof at the head of store/sweep.py stands on that.
    """
    fence(head, tenure)
    if head.lists(addition.entry.id):
        return head
    if addition.base is not None and not head.lists(addition.base):
        raise BaseGone(f"{addition.base} is not listed any more", where=head.job)
    row = addition.retention.keeps((*head.retired, *head.checkpoints, addition.entry))
    kept = tuple(entry for entry in row if entry not in head.retired)
    return replace(
        head,
        checkpoints=kept,
        retired=tuple(entry for entry in row if entry in head.retired),
        quarantine=addition.retention.holds(head.quarantine, kept),
        state="running" if addition.interruption is None else "interrupted",
        interruption=addition.interruption,
        crashes=0 if _is_new_step(head, addition.entry) else head.crashes,
    )


def _is_new_step(head: Head, entry: Listed) -> bool:
    return entry.id.step > max((old.id.step for old in head.checkpoints), default=-1)


def quarantine(head: Head, tenure: Tenure, bad: Quarantined) -> Head:
    """Take a checkpoint that does not verify out of the list, with the reason."""
    fence(head, tenure)
    if any(entry.id == bad.id for entry in head.quarantine):
        return head
    good = tuple(entry for entry in head.checkpoints if entry.id != bad.id)
    return replace(head, checkpoints=good, quarantine=(*head.quarantine, bad))


def release(
    head: Head, tenure: Tenure, outcome: str, crashes: int, interruption: dict[str, Any] | None
) -> Head:
    """Write how the attempt ended. ``outcome`` is one of OUTCOMES."""
    fence(head, tenure)
    return replace(
        head,
        state=_STATE_AFTER[outcome],
        crashes=crashes,
        interruption=head.interruption if interruption is None else interruption,
    )


def rebuild(job: str, run_id: str, manifests: Iterable[Manifest]) -> Head:
    """A head from what the store still shows, when head itself cannot be read.

    Ordered by (generation, sequence): the order of the commits. Steps say nothing about it:
    an attempt that fell back to step 20 and saved step 30 is newer than the step 40 before.
    """
    ordered = sorted(manifests, key=lambda manifest: manifest.id)
    newest = ordered[-1] if ordered else None
    return Head(
        job=job,
        run_id=newest.run_id if newest else run_id,
        generation=newest.id.generation if newest else 0,
        state="interrupted",
        attempts=newest.id.generation if newest else 0,
        checkpoints=tuple(_listed(m) for m in ordered if newest and m.run_id == newest.run_id),
        retired=tuple(_listed(m) for m in ordered if newest and m.run_id != newest.run_id),
    )


def _listed(manifest: Manifest) -> Listed:
    return Listed(manifest.id, manifest.size, manifest.written_at, manifest.cause)


def next_generation(
    lease_generation: int, head: Head | None, stored: Iterable[CheckpointId]
) -> int:
    """One above everything that was ever seen, whichever document was lost."""
    seen = [lease_generation, head.generation if head else 0]
    return 1 + max([*seen, *(found.generation for found in stored)])
