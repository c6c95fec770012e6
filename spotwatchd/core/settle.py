"""When the drain is over for a job, and when it is over for the machine.

ABANDONED means "not proven", never "not there": whatever commits later is still
recorded as committed. A timer alone settles every job: at the deadline a verdict
exists in every state.
"""

from __future__ import annotations

from spotwatchd.core import saving
from spotwatchd.core.actions import DrainClosed, JobSettled, Undrained
from spotwatchd.core.job import NOW, Job
from spotwatchd.core.table import Phase
from spotwatchd.core.turn import Turn, World
from spotwatchd.core.words import Life, Outcome, Saving, Settlement

Verdict = tuple[Settlement, str]


def verdict(job: Job, deadline: float, at: float) -> Verdict | None:
    """How the drain ended for ``job`` as of ``at``; None while it can still get better."""
    late = at >= deadline
    if job.hold.lost:
        return Settlement.ABANDONED, job.hold.lost
    if job.alive:
        return _of_running(job, late=late)
    if at < job.linger_until and not late:
        return None
    return _of_gone(job, late=late)


def _of_running(job: Job, *, late: bool) -> Verdict | None:
    if job.way.answer_committed:
        return Settlement.COMMITTED, "saved for the notice"
    if not late:
        return None
    if _saved_since_ask(job):
        return Settlement.COMMITTED, "saved after the notice, of its own accord"
    return Settlement.ABANDONED, phase(job)


def _saved_since_ask(job: Job) -> bool:
    ask, committed = job.way.ask, job.way.committed
    if ask is None or committed is None or job.way.uncommitted or job.way.failed:
        return False
    return ask.leave and committed.order > ask.after


def _of_gone(job: Job, *, late: bool) -> Verdict | None:
    if job.way.uncommitted:
        return (Settlement.ABANDONED, phase(job)) if late else None
    if not job.ran:
        return Settlement.COMMITTED, "was not running: nothing to save"
    if job.way.failed:
        return Settlement.ABANDONED, phase(job)
    if job.way.committed is None and job.outcome is not Outcome.FINISHED:
        return Settlement.ABANDONED, "ended without ever sealing a checkpoint"
    return Settlement.COMMITTED, "ended; its newest checkpoint is committed"


def phase(job: Job) -> str:
    """What was missing, for the receipt."""
    way = job.way
    if way.flight is not None:
        return f"sealed step {way.flight.known.seal.step}, {_obstacle(job)}"
    if way.failed and way.sealed is not None:
        return f"sealed step {way.sealed.seal.step}, but it cannot be committed: {way.failed}"
    if job.life is Life.STARTING:
        return "was still starting"
    return "asked, but nothing was sealed since"


def _obstacle(job: Job) -> str:
    if not job.hold.linked:
        return "but its replicator is not connected"
    if job.hold.generation is None:
        return "but the lease is not held"
    if job.saving is Saving.COMMITTING:
        return "uploaded, but its commit was not acknowledged"
    return "but its upload was not acknowledged"


def settle_at(world: World, job: Job) -> float | None:
    """When the job can be settled, if nothing else happens."""
    drain = world.drain
    if not drain.open_for(job.name):
        return None
    for at in sorted((NOW, job.linger_until)):
        if at < drain.deadline and verdict(job, drain.deadline, at) is not None:
            return at
    return drain.deadline


def settle(turn: Turn, job: Job) -> None:
    """The job's drain is over, for whichever reason holds now."""
    drain = turn.drain
    found = verdict(job, drain.deadline, turn.now)
    if found is None:
        raise RuntimeError(f"{job.name} is to be settled, but there is no verdict")
    record(turn, job, *found)
    ask, committed = job.way.ask, job.way.committed
    if found[0] is Settlement.COMMITTED and job.alive and ask and committed:
        ask.answered = ask.answered or committed.order
        saving.close_answered(turn, job)


def record(turn: Turn, job: Job, settlement: Settlement, reason: str) -> None:
    """Write the settlement down, once."""
    committed = job.way.committed
    step = committed.seal.step if committed else None
    turn.drain.jobs[job.name] = settlement
    turn.do(JobSettled(turn.drain.number, job.name, settlement, reason, step))


def abandon(turn: Turn, job: Job, reason: str) -> None:
    """Settle at once, when the drain waits for this job."""
    if turn.drain.open_for(job.name):
        record(turn, job, Settlement.ABANDONED, reason)


def close_at(world: World) -> float | None:
    """When the drain is over for the machine."""
    drain = world.drain
    return NOW if drain.phase is Phase.OPEN and drain.all_settled() else None


def close(turn: Turn) -> None:
    """Every job is settled."""
    turn.drain.move("all settled")
    spare = max(0.0, turn.drain.deadline - turn.now)
    turn.do(DrainClosed(turn.drain.number, spare))


def undrain_at(world: World) -> float | None:
    """When the machine counts as spared."""
    drain = world.drain
    if drain.phase is not Phase.CLOSED:
        return None
    return NOW if drain.withdrawn else drain.deadline + world.settings.undrain_after


def undrain(turn: Turn) -> None:
    """The machine outlived its notice: jobs may run here again."""
    drain = turn.drain
    cause = "notice withdrawn" if drain.withdrawn else "machine outlived it"
    drain.move(cause)
    drain.over.extend(drain.identities)
    drain.identities.clear()
    drain.showing.clear()
    turn.do(Undrained(drain.number, cause))
    for job in turn.world.jobs.values():
        if job.way.ask is not None and job.way.ask.cause == "notice":
            saving.withdraw(turn, job)
