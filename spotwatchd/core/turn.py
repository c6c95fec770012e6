"""One turn of the machine: an event at a time, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from spotwatchd.core.actions import Action, Report
from spotwatchd.core.budget import Plan
from spotwatchd.core.drain import Drain
from spotwatchd.core.job import Job
from spotwatchd.core.resources import Queued, Resources
from spotwatchd.core.settings import CoreSettings
from spotwatchd.core.traffic import Link


@dataclass
class Course:
    """What the budget decided in the drain that is open.

    Attributes:
        plan: the newest, None without a drain or while too little is known.
        seen: what it was made from, to see that something changed.
        stale: figures changed that it does not know.
        at: when it was made.
        told: what people were told of each job, to tell only news.
    """

    plan: Plan | None = None
    seen: object = None
    stale: bool = False
    at: float = 0.0
    told: dict[str, list[object]] = field(default_factory=dict)

    def clear(self) -> None:
        """No drain."""
        self.plan, self.seen, self.stale = None, None, False
        self.told.clear()


@dataclass
class World:
    """Everything the core remembers.

    Attributes:
        link: what is measured of the network.
        course: what the budget decided.
        machine: what it has for jobs.
        now: time of the newest turn.
        queue: who waits for room, and why.
        hint_until: hints before this time repeat one that was followed.
    """

    settings: CoreSettings
    number: int
    jobs: dict[str, Job] = field(default_factory=dict)
    drain: Drain = field(default_factory=Drain)
    link: Link = field(default_factory=Link)
    course: Course = field(default_factory=Course)
    machine: Resources = field(default_factory=Resources)
    now: float = 0.0
    queue: dict[str, Queued] = field(default_factory=dict)
    hint_until: float = 0.0
    hint_key: str | None = None

    def left(self, now: float) -> float | None:
        """Seconds to the deadline of the drain, or None without one to keep."""
        left = self.drain.deadline - now
        return left if self.drain.on and left > 0 else None


@dataclass
class Turn:
    """What event handlers and rules are given."""

    world: World
    now: float
    out: list[Action] = field(default_factory=list)

    @property
    def settings(self) -> CoreSettings:
        """The machine's numbers."""
        return self.world.settings

    @property
    def drain(self) -> Drain:
        """The drain."""
        return self.world.drain

    def do(self, action: Action) -> None:
        """Want something done."""
        self.out.append(action)

    def next_number(self) -> int:
        """A number for an action, unique over the life of the machine's boot."""
        number = self.world.number
        self.world.number += 1
        return number

    def report(self, word: str, job: str | None = None, **fields: object) -> None:
        """Tell people."""
        self.do(Report(word, job, tuple(fields.items())))

    def deadline(self) -> float | None:
        """The deadline for what is started now: None without one, or when it is past."""
        return None if self.world.left(self.now) is None else self.drain.deadline
