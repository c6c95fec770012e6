"""The lease: who may run a job, and how time decides it without a common clock.

Two clocks are involved and never compared. The holder counts from when it *sent* its last
successful renewal, on its own clock, and stops ``margin`` before the end. A taker counts
from when it first *saw* a nonce, on its own clock, and takes over only when, a full
duration later, the same nonce is still there. The renewal was sent before it could be
seen, so the taker's end is always the later one, whatever the two clocks show; the margin
pays for clocks that run at different speeds and for the time between a check and the
write that it allows.

All of this only keeps the *processes* of two owners apart. What keeps the store right
when a margin is too short is the fence in head.json (see core/head.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spotwatchd.core.fields import dump, load
from spotwatchd.core.ids import check_job

# A lease that claims to last longer is garbage: believing it would park the job for good.
LONGEST_LEASE = 86400.0


@dataclass(frozen=True)
class Owner:
    """A machine, in one life of it. ``host`` is for people."""

    machine: str
    boot_id: str
    host: str = ""


@dataclass(frozen=True)
class Lease:
    """lease.json.

    Attributes:
        tenure: chosen anew at each take and kept over its renewals: who holds it, where two
            owners could come to the same generation (a lease that was damaged and replaced).
        seconds: how long a reader must see one nonce before it may take over.
        nonce: fresh at each write.
    """

    job: str
    owner: Owner
    generation: int
    seconds: float
    nonce: str
    held: bool
    tenure: str = ""

    def encode(self) -> bytes:
        """As stored."""
        owner = {
            "machine": self.owner.machine,
            "boot_id": self.owner.boot_id,
            "host": self.owner.host,
        }
        return dump(
            {
                "job": self.job,
                "owner": owner,
                "generation": self.generation,
                "seconds": self.seconds,
                "nonce": self.nonce,
                "held": self.held,
                "tenure": self.tenure,
            }
        )


def parse_lease(body: bytes, job: str, where: str) -> Lease:
    """Read lease.json. Raises Damaged, StoreDenied."""
    fields = load(body, where)
    check_job(fields, job)
    owner = fields.child("owner")
    if not fields.text("nonce"):
        raise fields.bad("nonce", "a nonce")
    return Lease(
        job=job,
        owner=Owner(owner.text("machine"), owner.text("boot_id"), owner.text("host", "")),
        generation=fields.number("generation"),
        seconds=fields.seconds("seconds", most=LONGEST_LEASE),
        nonce=fields.text("nonce"),
        held=fields.flag("held"),
        tenure=fields.text("tenure", ""),
    )


@dataclass(frozen=True)
class Terms:
    """How long a lease lasts: ``seconds`` for the takers, less ``margin`` for the holder."""

    seconds: float
    margin: float

    @classmethod
    def of(cls, seconds: float, margin: float | None = None) -> Terms:
        """Terms with the default margin: a tenth and one second, at most a third."""
        return cls(seconds, min(seconds / 10 + 1.0, seconds / 3) if margin is None else margin)

    @property
    def renew_every(self) -> float:
        """Seconds between renewals: two may fail before the third is too late."""
        return self.seconds / 3


@dataclass(frozen=True)
class Tenure:
    """What a holder knows of its lease.

    Attributes:
        token: the ``tenure`` of Lease and Head.
        sent_at: when the last renewal that is known to have succeeded was sent, on this
            machine's clock; None when that was in an earlier life of this process.
    """

    generation: int
    token: str
    sent_at: float | None = None

    def valid_until(self, terms: Terms) -> float:
        """When this holder must stop counting on it (minus infinity: it never may)."""
        if self.sent_at is None:
            return float("-inf")
        return self.sent_at + terms.seconds - terms.margin

    def valid(self, now: float, terms: Terms) -> bool:
        """Whether no other owner can exist at ``now``."""
        return now < self.valid_until(terms)

    def renewed(self, sent_at: float) -> Tenure:
        """After a renewal sent at ``sent_at`` is known to have succeeded."""
        known = self.sent_at if self.sent_at is not None else sent_at
        return replace(self, sent_at=max(known, sent_at))


@dataclass(frozen=True)
class Sighting:
    """The lease that a taker looks at: its nonce, when it was first seen, how long it counts."""

    nonce: str
    since: float
    seconds: float

    @property
    def over(self) -> float:
        """When the lease may be taken, if the nonce is still the same then."""
        return self.since + self.seconds


def look(seen: Sighting | None, nonce: str, seconds: float, now: float) -> Sighting:
    """Note that ``nonce`` was read at ``now`` (a time *after* the read returned)."""
    if seen is not None and seen.nonce == nonce and seen.seconds == seconds:
        return seen
    return Sighting(nonce, now, seconds)


def at_once(lease: Lease, me: Owner) -> bool:
    """Whether ``lease`` can be taken without waiting.

    It can when it was given back, and when its owner was this machine in another boot:
    nothing survives a boot. (Another process in the *same* boot may well be alive.)
    """
    same_machine = bool(me.machine) and lease.owner.machine == me.machine
    return not lease.held or (same_machine and lease.owner.boot_id != me.boot_id)


def may_take(sighting: Sighting, now: float) -> bool:
    """Whether the lease in ``sighting``, just read again unchanged, has run out at ``now``."""
    return now >= sighting.over
