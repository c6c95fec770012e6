"""The world around a core in a notice: jobs that flush, replicators, one link. As fluids.

Time goes from one change to the next; between two changes every rate is constant. What is
sent is shared by max-min among the replicators that want to send, as TCP shares a link of
equal round trips, each up to its cap. A replicator's upload goes before its growing file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.core.simulation.cases import Case, Trained

_NOTHING = 1e-7


@dataclass
class Replica:
    """A job and its replicator.

    Attributes:
        left: bytes to be sent of the old and the new checkpoint, by name.
        upload: which of the two is going up, "" when none is.
        committing: which one, and when it will be done.
        cap: bytes per second.
        sealed: the new one is.
        held: seconds of work in the store.
    """

    job: Trained
    left: dict[str, float] = field(default_factory=dict)
    upload: str = ""
    committing: tuple[str, float] | None = None
    cap: float = math.inf
    sealed: bool = False
    held: float = 0.0
    speed: dict[str, float] = field(default_factory=dict)

    def written(self, now: float) -> float:
        """Bytes of the new checkpoint that can be read."""
        if self.sealed or now >= self.job.flush:
            return self.job.size
        return self.job.size * now / self.job.flush

    def early(self) -> float:
        """Bytes of the new checkpoint that were sent."""
        return self.job.size - self.left["new"]

    def grows(self, now: float) -> float:
        """How fast it could send what it is writing."""
        if self.sealed or not self.job.streams:
            return 0.0
        behind = self.written(now) - self.early() > _NOTHING * self.job.size
        return math.inf if behind else self.job.size / self.job.flush

    def worth(self, what: str) -> float:
        """Seconds of work that a checkpoint holds."""
        return self.job.done if what == "new" else self.job.sealed or 0.0


class Stream:
    """The link and all replicas."""

    def __init__(self, case: Case) -> None:
        self.case, self.now = case, 0.0
        self.replicas = {job.name: Replica(job, _left(job)) for job in case.jobs}

    def share(self) -> None:
        """Give every replica its part of the link."""
        wishes = []
        for replica in self.replicas.values():
            up = math.inf if replica.upload else 0.0
            wishes.append((min(replica.cap, up + replica.grows(self.now)), replica))
        rate, todo = self.case.rate, len(wishes)
        for wish, replica in sorted(wishes, key=lambda pair: pair[0]):
            given = min(wish, rate / todo)
            rate, todo = rate - given, todo - 1
            replica.speed = {replica.upload: given} if replica.upload else {"new": given}

    def change(self) -> float:
        """When the next upload, flush or commit ends, or early sending catches up."""
        at = math.inf
        for replica in self.replicas.values():
            for what, speed in replica.speed.items():
                if speed > 0:
                    at = min(at, self.now + self._until_empty(replica, what, speed))
            if not replica.sealed:
                at = min(at, replica.job.flush)
            if replica.committing:
                at = min(at, replica.committing[1])
        return max(at, self.now)

    def _until_empty(self, replica: Replica, what: str, speed: float) -> float:
        if what == replica.upload:
            return replica.left[what] / speed
        growth = replica.job.size / replica.job.flush
        behind = max(0.0, replica.written(self.now) - replica.early())
        if speed <= growth * (1 + _NOTHING) or behind <= _NOTHING * replica.job.size:
            return math.inf
        return max(behind / (speed - growth), 1e-6)

    def advance(self, to: float) -> None:
        """Let time pass at the rates that hold."""
        passed, self.now = to - self.now, to
        for replica in self.replicas.values():
            for what, speed in replica.speed.items():
                replica.left[what] = max(0.0, replica.left[what] - speed * passed)
                if what != replica.upload:  # nothing leaves that is not written
                    unwritten = replica.job.size - replica.written(to)
                    replica.left[what] = max(replica.left[what], unwritten)

    def sealed_now(self) -> list[Replica]:
        """Jobs whose new checkpoint is complete."""
        found = [
            replica
            for replica in self.replicas.values()
            if not replica.sealed and replica.job.flush <= self.now + _NOTHING
        ]
        for replica in found:
            replica.sealed = True
        return found

    def uploaded_now(self) -> list[tuple[Replica, str]]:
        """Uploads that are complete; their commits begin."""
        found = []
        for replica in self.replicas.values():
            what = replica.upload
            if what and replica.left[what] <= _NOTHING * replica.job.size:
                replica.upload, replica.left[what] = "", 0.0
                found.append((replica, what))
        return found

    def commit(self, replica: Replica, what: str) -> None:
        """Its commit begins."""
        replica.committing = (what, self.now + self.case.commit)

    def committed_now(self) -> list[tuple[Replica, str]]:
        """Commits that are complete."""
        found = []
        for replica in self.replicas.values():
            if replica.committing and replica.committing[1] <= self.now + _NOTHING:
                what = replica.committing[0]
                replica.committing = None
                replica.held = max(replica.held, replica.worth(what))
                found.append((replica, what))
        return found

    def held(self) -> float:
        """Seconds of work in the store."""
        return sum(replica.held for replica in self.replicas.values())


def _left(job: Trained) -> dict[str, float]:
    left = {"new": job.size}
    if job.sealed is not None:
        left["old"] = job.size * job.left
    return left
