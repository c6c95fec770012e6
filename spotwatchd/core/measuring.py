"""The figures of the budget: what progress says of each upload and of the link."""

from __future__ import annotations

from spotwatchd.core import offers
from spotwatchd.core.events import Growing, Progress
from spotwatchd.core.job import Job
from spotwatchd.core.table import Phase
from spotwatchd.core.turn import Turn, World
from spotwatchd.core.words import Saving

_BEHIND = 0.9  # of what is written: a growing file of which less is sent waits for the link
REPLAN = 1.0  # seconds between two plans when nothing but figures changed


def on_progress(turn: Turn, job: Job, event: Progress) -> None:
    """The store acknowledged bytes of an upload."""
    flight = job.way.flight
    if flight is None or flight.no != event.no or job.saving is not Saving.UPLOADING:
        return
    before = flight.sent
    flight.size = max(0, event.size)
    flight.sent = min(max(0, event.sent), flight.size)
    job.meter.note(turn.now, 0 if before is None else flight.sent - before)
    _measured(turn)


def on_growing(turn: Turn, job: Job, event: Growing) -> None:
    """A checkpoint is being written, and sent meanwhile."""
    meter = job.meter
    if not job.alive:
        return
    sent = max(0, event.sent)
    before = min(meter.early, sent)  # less: another file has begun
    meter.streams = True
    meter.early, meter.written, meter.grown = sent, max(sent, event.size), turn.now
    meter.note(turn.now, sent - before, whole=not uploads(job))
    _measured(turn)


def _measured(turn: Turn) -> None:
    world, course = turn.world, turn.world.course
    if world.link.due(turn.now):
        _look(world, turn.now)
    if turn.now - course.at >= REPLAN:
        course.stale = True


def uploads(job: Job) -> bool:
    """The upload of a sealed checkpoint is under way."""
    flight = job.way.flight
    return job.saving is Saving.UPLOADING and flight is not None and flight.no is not None


def sending_now(world: World) -> list[Job]:
    """The jobs whose uploads are under way and may send."""
    return [job for job in world.jobs.values() if uploads(job) and job.pace != 0]


def _growing_now(world: World) -> list[Job]:
    """The jobs that send only what they are writing."""
    jobs = world.jobs.values()
    return [j for j in jobs if not uploads(j) and j.pace != 0 and j.meter.written > 0]


def _presses(job: Job, now: float) -> bool:
    """It would send more if the link let it."""
    meter = job.meter
    behind = uploads(job) or meter.early < _BEHIND * meter.written
    return job.pace is None and behind and not meter.stalled(now)


def _look(world: World, now: float) -> None:
    """Take the measure of the link, if all that is sending can be measured."""
    uploading = sending_now(world)
    sending = uploading + _growing_now(world)
    rates = [job.meter.rate() for job in sending]
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(rates) or not any(_presses(job, now) for job in sending):
        return
    total = sum(known)
    draining = world.drain.phase is Phase.OPEN
    probing = now < world.link.probe_until
    if len(uploading) > 1 and (not draining or probing or not world.link.totals):
        if probing:
            world.link.totals.clear()
            world.link.factor = 1.0
        world.link.note_total(now, total)
    elif draining:
        _compare(world, now, sending, total)


def _compare(world: World, now: float, sending: list[Job], total: float) -> None:
    """Today's link against that of the past."""
    link = offers.link(world)
    if link is None or total <= 0:
        return
    wishes = [offers.limit(world, j, link, now) if j.pace is None else j.pace for j in sending]
    expected = min(link.middle, sum(wishes))
    if expected > 0:
        world.link.note_factor(now, world.link.factor * total / expected)
