"""The drain: everything from a notice to the end of the machine (or to its survival)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from spotwatchd.core.table import DRAIN, Phase, follow
from spotwatchd.core.words import Notice, Settlement

Identity = tuple[str, str]  # source and key of a notice


@dataclass
class Drain:
    """State of the newest drain; ``phase`` CALM means that there is none.

    Attributes:
        number: its identity.
        notice: the notice whose deadline and action count.
        deadline: only ever moves earlier.
        jobs: settlement per job, None while it is open.
        showing: sources that show a notice now.
        identities: notices that belong to it, to ignore after it.
        over: notices of earlier drains and stale ones, ignored.
    """

    phase: Phase = Phase.CALM
    number: int = 0
    notice: Notice | None = None
    deadline: float = 0.0
    jobs: dict[str, Settlement | None] = field(default_factory=dict)
    showing: set[str] = field(default_factory=set)
    # Bounded: a source whose time slides has a new identity at every poll.
    identities: deque[Identity] = field(default_factory=lambda: deque(maxlen=64))
    over: deque[Identity] = field(default_factory=lambda: deque(maxlen=256))

    @property
    def on(self) -> bool:
        """The machine is under notice."""
        return self.phase is not Phase.CALM

    @property
    def withdrawn(self) -> bool:
        """No source shows the notice any more."""
        return not self.showing

    def open_for(self, job: str) -> bool:
        """This job waits to be settled."""
        return self.phase is Phase.OPEN and job in self.jobs and self.jobs[job] is None

    def all_settled(self) -> bool:
        """Nobody waits."""
        return all(settlement is not None for settlement in self.jobs.values())

    def move(self, cause: str) -> None:
        """Follow an arrow of the drain table."""
        self.phase = follow(DRAIN, self.phase, cause)

    def belongs(self, identity: Identity) -> None:
        """Remember a notice as one of this drain."""
        if identity not in self.identities:
            self.identities.append(identity)
