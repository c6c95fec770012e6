"""The figures of the budget: what progress says of each upload and of the link."""

from __future__ import annotations

from spotwatchd.core import offers
from spotwatchd.core.events import Growing, Progress
from spotwatchd.core.job import Job
from spotwatchd.core.table import Phase
from spotwatchd.core.turn import Turn, World
from spotwatchd.core.words import Saving

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
    meter.note(turn.now, sent - before)
    _measured(turn)


def _measured(turn: Turn) -> None:
    world, course = turn.world, turn.world.course
    if world.link.due(turn.now):
        _look(world, turn.now)
    if turn.now - course.at >= REPLAN:
        course.stale = True


def sending_now(world: World) -> list[Job]:
    """The jobs whose uploads are under way and may send."""
    return [
        job
        for job in world.jobs.values()
        if job.saving is Saving.UPLOADING
        and job.way.flight is not None
        and job.way.flight.no is not None
        and job.pace != 0
    ]


def _look(world: World, now: float) -> None:
    """Take the measure of the link, if all that is sending can be measured."""
    sending = sending_now(world)
    free = [job for job in sending if job.pace is None and not job.meter.stalled(now)]
    rates = [job.meter.rate() for job in sending]
    known = [rate for rate in rates if rate is not None]
    if not free or len(known) < len(rates):
        return
    early = [j.meter.rate() or 0.0 for j in world.jobs.values() if _only_grows(j)]
    total = sum(known) + sum(early)
    draining = world.drain.phase is Phase.OPEN
    probing = now < world.link.probe_until
    if len(sending) > 1 and (not draining or probing or not world.link.totals):
        if probing:
            world.link.totals.clear()
            world.link.factor = 1.0
        world.link.note_total(now, total)
    elif draining:
        _compare(world, now, sending, total)


def _only_grows(job: Job) -> bool:
    return job.saving is not Saving.UPLOADING and job.meter.early > 0 and job.pace != 0


def _compare(world: World, now: float, sending: list[Job], total: float) -> None:
    """Today's link against that of the past."""
    link = offers.link(world)
    if link is None or total <= 0:
        return
    wishes = [offers.limit(world, j, link, now) if j.pace is None else j.pace for j in sending]
    expected = min(link.middle, sum(wishes))
    if expected > 0:
        world.link.note_factor(now, world.link.factor * total / expected)
