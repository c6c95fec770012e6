"""Read-only pictures of the core's state, for status and receipts."""

from __future__ import annotations

from dataclasses import dataclass

from spotwatchd.core.actions import Action
from spotwatchd.core.events import Event
from spotwatchd.core.job import Job, Known
from spotwatchd.core.resources import Queued
from spotwatchd.core.rules import save_at
from spotwatchd.core.table import Phase
from spotwatchd.core.turn import World
from spotwatchd.core.words import Life, Notice, Outcome, Saving, Seal, Settlement


@dataclass(frozen=True)
class AskView:
    """The open ask."""

    number: int
    cause: str
    deadline: float | None
    answered: bool


@dataclass(frozen=True)
class JobView:
    """One job.

    Attributes:
        attempt: number of the newest attempt.
        generation: of the lease that is held, or None.
        linked: its replicator is connected.
        sealed, committed: newest of each.
        next_save: when the next background save is due, or None while none is planned.
        retry_at: when the lease is tried again, while the job waits; None otherwise.
        outcome: of the last attempt that ended.
        crashes: in a row without a new committed step.
        lost: why it lost the right to run, "" when it did not.
        asked: newest ask number.
        blocked, remedy: what this machine lacks, and what to do; "" when it lacks nothing.
        queued: why there is no room for it now, None when that is not what it waits for.
        gpus: that it has for itself, None when it did not ask.
    """

    job: str
    life: Life
    saving: Saving
    attempt: int
    generation: int | None
    linked: bool
    sealed: Seal | None
    committed: Seal | None
    next_save: float | None
    retry_at: float | None
    outcome: Outcome | None
    crashes: int
    lost: str
    ask: AskView | None
    asked: int
    stopping: bool
    blocked: str = ""
    remedy: str = ""
    queued: Queued | None = None
    gpus: tuple[int, ...] | None = None


@dataclass(frozen=True)
class DrainView:
    """The drain that is on.

    Attributes:
        phase: OPEN while jobs are not settled, CLOSED afterwards.
        deadline: the one that is kept (a notice that was past already got a new one).
        jobs: settlement per job, None while it is open.
        sources: that show a notice now.
    """

    number: int
    phase: Phase
    notice: Notice
    deadline: float
    jobs: dict[str, Settlement | None]
    sources: frozenset[str]


@dataclass(frozen=True)
class StoryLine:
    """What happened at one event. ``before`` and ``after`` are "life/saving" or the phase."""

    now: float
    event: Event
    before: str
    after: str
    actions: tuple[Action, ...]


def state_of(world: World, name: str | None) -> str:
    """The state of a job (or of the drain) in a word or two."""
    if name is None:
        return world.drain.phase.value
    job = world.jobs.get(name)
    return f"{job.life.value}/{job.saving.value}" if job else "unknown"


def of_job(world: World, job: Job) -> JobView:
    """A picture of one job."""
    opened = job.way.ask
    ask = None
    if opened is not None:
        answered = opened.answered is not None
        ask = AskView(opened.number, opened.cause, opened.deadline, answered)
    waits = job.life is Life.WAITING and job.hold.take_at > 0
    return JobView(
        job=job.name,
        life=job.life,
        saving=job.saving,
        attempt=job.attempt,
        generation=job.hold.generation,
        linked=job.hold.linked,
        sealed=_seal(job.way.sealed),
        committed=_seal(job.way.committed),
        next_save=save_at(world, job),
        retry_at=job.hold.take_at if waits else None,
        outcome=job.outcome,
        crashes=job.crashes,
        lost=job.hold.lost,
        ask=ask,
        asked=job.asked,
        stopping=job.stop_since is not None,
        blocked=job.blocked,
        remedy=job.remedy,
        queued=world.queue.get(job.name),
        gpus=_gpus(job),
    )


def _gpus(job: Job) -> tuple[int, ...] | None:
    if job.policy.gpus is None:
        return None
    return job.seat.own if job.seat is not None and job.alive else ()


def _seal(known: Known | None) -> Seal | None:
    return known.seal if known else None


def of_drain(world: World) -> DrainView | None:
    """A picture of the drain, or None without one."""
    drain = world.drain
    if not drain.on or drain.notice is None:
        return None
    return DrainView(
        drain.number,
        drain.phase,
        drain.notice,
        drain.deadline,
        dict(drain.jobs),
        frozenset(drain.showing),
    )
