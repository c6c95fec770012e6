"""Before a job goes for its lease it needs a seat: its GPUs, or its place among the others.

The decision itself is in resources.py. Here is who takes part in it: jobs that would take
their lease now, and jobs that wait for the lease of another machine (which may last for
hours, so they hold no seat meanwhile, and get one only if there is one when they win).
"""

from __future__ import annotations

from spotwatchd.core.events import ResourcesSeen, TakeWaits, Watched
from spotwatchd.core.job import NOW, Job
from spotwatchd.core.resources import Holder, Plan, Queued, Resources, Seat, Wish, plan
from spotwatchd.core.turn import Turn, World
from spotwatchd.core.words import JobPolicy, Life, Outcome


def on_resources(turn: Turn, event: ResourcesSeen) -> None:
    """Somebody looked what this machine has."""
    turn.world.machine = Resources(event.gpus, event.cpu_jobs, event.problem)
    there = set(event.gpus or ())
    for job in turn.world.jobs.values():
        if job.life is Life.TAKING and job.seat is not None and not there.issuperset(job.seat.own):
            job.seat = None  # nothing runs yet: it gets another, or waits


def on_take_waits(_turn: Turn, job: Job, event: TakeWaits) -> None:
    """Another machine has the lease: nobody here waits for what this job would need."""
    if job.hold.take != event.no or job.life is not Life.TAKING:
        return
    job.elsewhere = True
    job.seat = None


def needs(policy: JobPolicy) -> tuple[object, ...]:
    """What a seat depends on."""
    return policy.gpus, policy.sees


def on_watched(_turn: Turn, job: Job, event: Watched) -> None:
    """How the job is elsewhere, while it waits for room here."""
    if job.hold.watch != event.no or job.life is not Life.WAITING:
        return
    job.elsewhere = event.elsewhere
    if event.ended:
        job.outcome = Outcome(event.ended)
        job.live("ended elsewhere")


def found_again(policy: JobPolicy, gpus: tuple[int, ...] | None) -> Seat | None:
    """The seat of a job that ran before the daemon did."""
    if not policy.managed:
        return None
    if policy.gpus is None:
        return Seat(sees=policy.sees)
    if policy.gpus and not gpus:
        return Seat(sees=None)  # nobody knows which it has: until it ends, no GPU is given away
    return Seat(own=gpus or ())


def wants_at(world: World, job: Job) -> float | None:
    """When a job that waits would go for its lease, if there were room."""
    return _due_at(world, job) if job.hold.linked else None


def _due_at(world: World, job: Job) -> float | None:
    if job.life is not Life.WAITING:
        return None
    if job.hold.take is not None or job.hold.release is not None:
        return None
    free = not world.drain.on and job.stop_since is None
    return job.hold.take_at if free and job.present and not job.way.uncommitted else None


def has_room(job: Job) -> bool:
    """Whether the job may go for its lease. Whoever runs by itself has asked nobody."""
    return not job.policy.managed or job.seat is not None or job.trying


def _seatless(job: Job) -> bool:
    """It waits for the lease of another machine, or has just won it."""
    return job.life is Life.TAKING and job.policy.managed and job.seat is None


def decide(world: World) -> Plan:
    """Who of those who are due may go on."""
    wishes = [_wish(job) for job in world.jobs.values() if _takes_part(world, job)]
    if not wishes:
        return Plan()
    holders = [
        Holder(job.name, job.seat, job.policy.owner, firm=job.alive)
        for job in world.jobs.values()
        if job.seat is not None
    ]
    return plan(world.machine, holders, wishes)


def _takes_part(world: World, job: Job) -> bool:
    if _seatless(job):
        return True
    if has_room(job):
        return False
    at = _due_at(world, job)
    if at is None or at > world.now:
        return False
    return job.hold.linked or world.now < _late_at(world, job)


def _late_at(world: World, job: Job) -> float:
    """Until when a job without its replicator keeps its place."""
    return job.added_at + world.settings.link_wait


def _wish(job: Job) -> Wish:
    policy = job.policy
    return Wish(
        job.name,
        policy.gpus,
        policy.sees,
        policy.priority,
        policy.since,
        policy.owner,
        job.elsewhere,
        yields=bool(job.blocked),
        soon=not job.hold.linked and job.life is Life.WAITING,
    )


def seat_at(world: World) -> float | None:
    """When somebody can be seated, or must make room."""
    decided = decide(world)
    losing = any(_seatless(job) and name in decided.queued for name, job in world.jobs.items())
    trying = any(not _seatless(world.jobs[name]) for name in decided.tries)
    if decided.seats or losing or trying:
        return NOW
    times = [at for job in world.jobs.values() for at in _changes_at(world, job)]
    return min((at for at in times if at > world.now), default=None)


def _changes_at(world: World, job: Job) -> list[float]:
    """When the job begins to take part, or no longer does."""
    due = None if has_room(job) else _due_at(world, job)
    if due is None:
        return []
    return [due] if job.hold.linked else [due, _late_at(world, job)]


def seat(turn: Turn) -> None:
    """Carry the decision out."""
    decided = decide(turn.world)
    for name, given in decided.seats.items():
        turn.world.jobs[name].seat = given
    for name in decided.tries:
        turn.world.jobs[name].trying = True
    for name in decided.queued:
        if _seatless(turn.world.jobs[name]):
            make_room(turn.world.jobs[name])


def make_room(job: Job) -> None:
    """Whatever the job would need is gone: the release ends its wait for the lease."""
    job.live("hand back")
    job.linger_until = NOW
    job.outcome = Outcome.PREEMPTED


def queued(world: World) -> dict[str, Queued]:
    """Who waits for room, and why."""
    return decide(world).queued


def won(world: World, job: Job) -> bool:
    """The job got its lease: whether there is a seat for it, which it then has."""
    job.elsewhere = False
    if job.seat is None:
        job.seat = decide(world).seats.get(job.name)
    return job.seat is not None
