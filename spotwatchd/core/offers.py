"""What could be brought to the store now, with the figures that were measured.

The input of budget.py: one item per checkpoint that is under way, waits, or is being saved.
"""

from __future__ import annotations

import math

from spotwatchd.core.estimate import Estimate, robust
from spotwatchd.core.fluid import Item
from spotwatchd.core.job import Flight, Job, Known
from spotwatchd.core.traffic import SLOWER
from spotwatchd.core.turn import World
from spotwatchd.core.words import Life, Saving

_RECONNECT = 2.0  # seconds that a replicator takes to come back, at most
_OVERDUE = 0.1  # a flush that is late will take this part of its age longer
_UNMEASURED = 0.5  # relative doubt of a flush that was never measured
_LEAST_VALUE = 0.01  # seconds: saving what is saved already is worth next to nothing, not nothing


def wants_save(job: Job) -> bool:
    """It was told to save and leave, and has not sealed since."""
    opened = job.way.ask
    told = opened is not None and opened.leave and opened.answered is None
    return told and job.life is Life.RUNNING and not job.hold.lost


def situation(world: World) -> object:
    """All that a decision depends on, but for the figures: equal while nothing happened."""
    return world.drain.deadline, tuple(_standing(job) for job in world.jobs.values())


def _standing(job: Job) -> object:
    way, hold = job.way, job.hold
    flight = way.flight and (way.flight.known.order, way.flight.no, way.flight.retry_at)
    waiting = way.waiting and way.waiting.known.order
    committed = way.committed and way.committed.order
    right = hold.linked, hold.generation, hold.lost, hold.release
    return job.name, job.saving, flight, waiting, committed, right, wants_save(job)


def link(world: World) -> Estimate | None:
    """What all uploads together get, bytes per second; None while nobody knows."""
    return world.link.estimate([rate for job in world.jobs.values() for rate in job.way.rates])


def commit_seconds(world: World) -> float:
    """From the last byte of an upload to the word of the store."""
    known = [robust(job.way.commits) for job in world.jobs.values()]
    sums = [each.middle + each.spread for each in known if each is not None]
    return max(sums, default=world.settings.assumed_commit)


def of_world(world: World, now: float, known_link: Estimate | None) -> list[Item] | None:
    """Everything that may be sent, or None while the size of something is unknown."""
    found: list[Item] = []
    for job in world.jobs.values():
        if job.hold.lost or job.hold.release is not None:
            continue
        items = _of_job(world, job, now, limit(world, job, known_link, now))
        if items is None:
            return None
        found += items
    return found


def limit(world: World, job: Job, known_link: Estimate | None, now: float) -> float:
    """The fastest that the job's replicator can send; infinite when the link is slower."""
    if job.pace is None and job.saving is Saving.UPLOADING and job.meter.stalled(now):
        return 0.0
    own = job.meter.limit
    alone = robust(job.way.rates)
    if own is None and alone is not None and world.link.totals and known_link is not None:
        of_today = alone.middle * world.link.factor
        own = of_today if of_today < SLOWER * known_link.middle else None
    if own is None:
        return math.inf
    return max(own, 1.1 * (job.meter.rate() or 0.0))


def _of_job(world: World, job: Job, now: float, fastest: float) -> list[Item] | None:
    way, found = job.way, list[Item | None]()
    if way.flight is not None and job.saving is Saving.UPLOADING:
        found.append(_sealed(world, job, way.flight, now, fastest))
    if way.waiting is not None:
        found.append(_sealed(world, job, way.waiting, now, fastest))
    if wants_save(job):
        found.append(_coming(world, job, now, fastest))
    known = [item for item in found if item is not None]
    return known if len(known) == len(found) else None


def _value(job: Job, at: float) -> float:
    """Work since what is committed, or is as good as committed."""
    base = job.way.committed
    if job.saving is Saving.COMMITTING and job.way.flight is not None:
        base = job.way.flight.known
    since = base.at if base is not None else job.running_since
    return max(_LEAST_VALUE, at - since)


def _size(job: Job, known: int | None) -> Estimate | None:
    if known is not None:
        return Estimate(float(known), 0.0)
    flight = job.way.flight
    if not job.way.sizes and flight is not None and flight.size is not None:
        return robust([float(flight.size)])
    return robust(job.way.sizes)


def _sealed(world: World, job: Job, flight: Flight, now: float, fastest: float) -> Item | None:
    size = _size(job, flight.size)
    if size is None:
        return None
    sent = float(flight.early if flight.sent is None else flight.sent)
    if flight is job.way.flight and flight.no is not None:
        sent += job.meter.unreported(now)
    left = max(0.0, size.middle - sent)
    ready = max(_ready(job, flight, now), _commits(world, job, now))
    known: Known = flight.known
    return Item(
        job=job.name,
        order=known.order,
        size=left,
        unwritten=left,
        ready=ready,
        streams=False,
        value=_value(job, known.at),
        limit=fastest,
        size_doubt=size.spread,
        step=known.seal.step,
    )


def _ready(job: Job, flight: Flight, now: float) -> float:
    """Seconds until it can be sent."""
    hold = job.hold
    if not hold.linked or hold.generation is None:
        return _RECONNECT
    waits = flight.no is None and not flight.resting
    return max(0.0, flight.retry_at - now) if waits else 0.0


def _commits(world: World, job: Job, now: float) -> float:
    """Seconds until the commit under way is done; only then the job's next upload begins."""
    flight = job.way.flight
    if job.saving is not Saving.COMMITTING or flight is None:
        return 0.0
    return max(0.01, flight.uploaded_at + commit_seconds(world) - now)


def _coming(world: World, job: Job, now: float, fastest: float) -> Item | None:
    """The checkpoint that is being saved for the notice."""
    size, opened, meter = _size(job, None), job.way.ask, job.meter
    if size is None or opened is None:
        return None
    whole = max(size.middle, float(meter.written))
    flush = robust(job.way.costs) or _assumed(world)
    wait, unwritten = _flushing(job, whole, flush.middle, now)
    early = float(meter.early)
    streams = meter.streams and job.hold.linked
    if streams and (job.way.flight is None or job.way.flight.no is None):
        early = min(early + meter.unreported(now), whole - unwritten)
    return Item(
        job=job.name,
        order=job.way.order + 1,
        size=max(0.0, whole - early),
        unwritten=unwritten if streams else max(0.0, whole - early),
        ready=max(wait, _commits(world, job, now)),
        streams=streams,
        value=_value(job, opened.at),
        limit=fastest,
        size_doubt=size.spread,
        ready_doubt=min(flush.spread, wait),
    )


def _flushing(job: Job, whole: float, flush: float, now: float) -> tuple[float, float]:
    """Seconds until the seal, and bytes that are not written yet."""
    opened, meter = job.way.ask, job.meter
    age = now - opened.at if opened is not None else 0.0
    if meter.written <= 0 or opened is None or meter.grown < opened.at:
        wait = flush - age if flush > age else max(_OVERDUE * age, 0.01)
        return wait, whole * min(1.0, wait / flush) if flush > 0 else whole
    missing = 1 - meter.written / whole
    if missing <= 0:
        return 0.1, 0.0  # only the seal is missing
    told = flush * missing
    wait = told - (now - meter.grown)
    if wait <= 0:
        wait = min(_OVERDUE * age, told)
    return max(wait, 0.01), whole * missing * min(1.0, wait / told)


def _assumed(world: World) -> Estimate:
    cost = world.settings.assumed_cost
    return Estimate(cost, cost * _UNMEASURED)
