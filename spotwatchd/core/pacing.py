"""The budget at work: decides while a drain is open, and sets the pace.

Whatever changes what there is to decide makes the rule ``replan`` decide anew in the same
turn. Reports of progress do so once a second at most.
Outside an open drain there is no plan and no cap.
"""

from __future__ import annotations

from spotwatchd.core import budget, measuring, offers, saving
from spotwatchd.core.actions import Choice, Decided, Pace
from spotwatchd.core.budget import Plan
from spotwatchd.core.estimate import Estimate
from spotwatchd.core.fluid import Item
from spotwatchd.core.job import NOW, Job
from spotwatchd.core.table import Phase
from spotwatchd.core.traffic import SLOWER
from spotwatchd.core.turn import Turn, World
from spotwatchd.core.words import Saving

_PROBE = 1.5  # seconds in which all uploads run free
_PROBE_AGAIN = 15.0
_SAME_PACE = 0.03  # relative: a cap is not changed by less
_TOLD = 6  # decisions told per job and drain


# -- the rule ------------------------------------------------------------------------------


def replan_at(world: World) -> float | None:
    """When to decide anew."""
    course = world.course
    if world.drain.phase is not Phase.OPEN:
        left = course.plan is not None or any(job.pace is not None for job in world.jobs.values())
        return NOW if left else None
    if course.stale or course.seen != offers.situation(world):
        return NOW
    capped = any(job.pace is not None for job in world.jobs.values())
    return course.at + measuring.REPLAN if capped or world.link.probe_until > course.at else None


def replan(turn: Turn) -> None:
    """Decide what to send, in which order and how fast."""
    world, course = turn.world, turn.world.course
    if world.drain.phase is not Phase.OPEN:
        _end(turn)
        return
    course.seen, course.stale, course.at = offers.situation(world), False, turn.now
    link = offers.link(world)
    course.plan = _plan(world, turn.now, link)
    _overtake(turn, course.plan)
    _set_paces(turn, course.plan, link)
    if course.plan is not None:
        _tell(turn, course.plan)


def _end(turn: Turn) -> None:
    """The drain is over: nothing is held back any more."""
    turn.world.course.clear()
    for job in turn.world.jobs.values():
        job.meter.limit = None
        _set_pace(turn, job, None)
    _hold(turn, None)


def _plan(world: World, now: float, link: Estimate | None) -> Plan | None:
    commit = offers.commit_seconds(world)
    left = world.drain.deadline - now - commit
    items = offers.of_world(world, now, link)
    if link is None or not items or left <= 0:
        return None
    present = world.course.plan
    order = [item.key for item in present.order] if present else []
    return budget.decide(items, link, left, commit=commit, present=order)


def _overtake(turn: Turn, plan: Plan | None) -> None:
    """Stop uploads that the job's own newer checkpoint is to replace."""
    for job in turn.world.jobs.values():
        flight, waiting = job.way.flight, job.way.waiting
        if flight is None or waiting is None or job.saving is not Saving.UPLOADING:
            continue
        if flight.no is None:
            keep = False
        elif plan is None:
            keep = saving.keep_older(turn, job, flight)
        else:
            keep = plan.rank((job.name, flight.known.order)) < plan.rank(
                (job.name, waiting.known.order)
            )
        if not keep:
            saving.overtake(turn, job, flight)


def _set_paces(turn: Turn, plan: Plan | None, link: Estimate | None) -> None:
    """Hold back what is to wait, if that is right and possible; else nobody."""
    jobs = turn.world.jobs
    caps = plan.caps() if plan is not None else {}
    speaking = all(jobs[name].meter.speaks for name in caps)
    if plan is None or link is None or plan.fair or not speaking or not _knows(turn, caps, link):
        # Which of one job's own checkpoints goes first needs no knowledge of the others.
        alone = plan is not None and not plan.fair and speaking and len(caps) == 1
        _hold(turn, plan if alone else None)
        caps = dict.fromkeys(jobs)
    else:
        _hold(turn, plan)
    for name, cap in caps.items():
        _set_pace(turn, jobs[name], cap)
    speeds = plan.speeds() if plan is not None else {}
    for name, job in jobs.items():
        job.meter.expect(turn.now, speeds.get(name, 0.0))


def _hold(turn: Turn, plan: Plan | None) -> None:
    """Stop uploads that are to rest, and let those go on that are served again."""
    held = plan.held() if plan else frozenset()
    served = plan.served() if plan else frozenset()
    for job in turn.world.jobs.values():
        flight = job.way.flight
        key = None if flight is None else (job.name, flight.known.order)
        if flight is not None and key in held:
            saving.rest(turn, job, flight)
        elif flight is not None and (plan is None or key in served):
            saving.go_on(flight)


def _knows(turn: Turn, caps: dict[str, float | None], link: Estimate) -> bool:
    """Whether enough is known of the link to hold anybody back."""
    world = turn.world
    if turn.now < world.link.probe_until or not world.link.totals:
        return False
    if any(cap is not None for cap in caps.values()) and _is_suspicious(world, turn.now, link):
        world.link.probe_until, world.link.probed = turn.now + _PROBE, turn.now
        return False
    return True


def _is_suspicious(world: World, now: float, link: Estimate) -> bool:
    """One upload has the link for itself and is slow: is it the link, or the upload?"""
    sending = measuring.sending_now(world)
    held = any(job.pace is not None for job in world.jobs.values())
    if len(sending) != 1 or not held or now - world.link.probed < _PROBE_AGAIN:
        return False
    meter, past = sending[0].meter, link.middle / world.link.factor
    rate = meter.rate()
    if rate is None or rate >= SLOWER * past or sending[0].pace is not None:
        return False
    if offers.limit(world, sending[0], link, now) < past:
        return False
    meter.limit = rate
    return True


def _set_pace(turn: Turn, job: Job, rate: float | None) -> None:
    if rate is not None and job.pace:
        small = abs(rate - job.pace) <= _SAME_PACE * job.pace
        rate = job.pace if small else rate
    if rate == job.pace:
        return
    job.pace, job.paced = rate, True
    if job.way.flight is not None:
        job.way.flight.alone = False
    for other in turn.world.jobs.values():
        other.meter.restart()
    turn.do(Pace(job.name, rate))


# -- what people are told ------------------------------------------------------------------


def _tell(turn: Turn, plan: Plan) -> None:
    """Say what was decided for each job, when it is news."""
    course = turn.world.course
    jobs = list(dict.fromkeys(item.job for item in plan.order if item.key in plan.chosen))
    for name in dict.fromkeys(item.job for item in plan.order):
        items = [item for item in plan.order if item.job == name]
        place = jobs.index(name) + 1 if name in jobs else 0
        news = (place, tuple((item.key, item.key in plan.chosen) for item in items))
        told = course.told.setdefault(name, [])
        if news in told or len(told) >= _TOLD:
            continue
        told.append(news)
        choices = tuple(_choice(plan, item) for item in items)
        turn.do(Decided(name, place, len(jobs), plan.rate, plan.horizon, choices))


def _choice(plan: Plan, item: Item) -> Choice:
    rate = min(plan.rate, item.limit)
    seconds = item.size / rate if rate > 0 else None
    fits = item.key in plan.chosen
    return Choice(item.step, round(item.size), item.ready, seconds, item.value, fits)
