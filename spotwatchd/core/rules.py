"""What is to be done, and when: the only place that knows about timers.

A rule has a question, *when may this be done* (a time, NOW, or None for not at all), and
a deed that makes the question answer differently. After each event every rule whose time
has come is carried out until none is left; ``next_wakeup`` is the earliest answer that is
still to come. So no deadline can be forgotten by a handler, and no timer can spin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spotwatchd.core import cadence, life, pacing, saving, seating, settle
from spotwatchd.core.actions import Release, Stop, Take, Watch
from spotwatchd.core.job import NOW, Job
from spotwatchd.core.turn import Turn, World
from spotwatchd.core.words import Life, Outcome


def hand_back_at(world: World, job: Job) -> float | None:
    """A job that does not run, nor is to run here, keeps no lease."""
    unwanted = world.drain.on or job.stop_since is not None
    if job.life is Life.TAKING:
        return NOW if unwanted or not job.present else None
    held = job.hold.maybe and not job.way.uncommitted
    if job.life is not Life.WAITING or not held:
        return None
    # One that waits for room here may find it on another machine.
    return NOW if unwanted or not job.present or job.name in world.queue else None


def hand_back(_turn: Turn, job: Job) -> None:
    """The release that follows also ends a take that waits for another owner."""
    job.live("hand back")
    job.linger_until = NOW
    job.outcome = Outcome.PREEMPTED if job.stop_since is None else Outcome.STOPPED


def end_at(_world: World, job: Job) -> float | None:
    """A job that is stopped while it waits, and holds nothing, is over."""
    waits = job.life is Life.WAITING and not job.hold.maybe and not job.way.uncommitted
    return NOW if waits and job.stop_since is not None else None


def end(_turn: Turn, job: Job) -> None:
    """Over, without a word in head: this machine does not hold it."""
    job.live("stop")
    job.outcome = Outcome.STOPPED


def leave_ask_at(world: World, job: Job) -> float | None:
    """A running job must be told to save and leave."""
    if job.life is not Life.RUNNING or job.hold.lost or job.unsaved:
        return None
    opened = job.way.ask
    if opened is not None and opened.leave:
        hurry = world.drain.on and opened.cause == "stop" and opened.answered is None
        return NOW if hurry else None
    return NOW if world.drain.on or job.stop_since is not None else None


def leave_ask(turn: Turn, job: Job) -> None:
    """A new number: what answers an older ask was saved too early."""
    saving.ask(turn, job, "notice" if turn.drain.on else "stop")


def move_ask_at(world: World, job: Job) -> float | None:
    """The board still shows a deadline that has moved."""
    opened = job.way.ask
    if job.life is not Life.RUNNING or not world.drain.on or opened is None:
        return None
    later = opened.deadline is not None and opened.deadline > world.drain.deadline
    return NOW if later and opened.answered is None else None


def move_ask(turn: Turn, job: Job) -> None:
    """The same number with the earlier deadline."""
    opened = job.way.ask
    if opened is not None:
        opened.deadline = turn.drain.deadline
        saving.publish(turn, job, opened)


def push_at(_world: World, job: Job) -> float | None:
    """A sealed checkpoint can go up: the lease is held and nothing is outstanding."""
    flight, hold = job.way.flight, job.hold
    if flight is None or flight.no is not None or hold.release is not None:
        return None
    return flight.retry_at if hold.linked and hold.generation is not None else None


def push(turn: Turn, job: Job) -> None:
    """Upload it."""
    if job.way.flight is not None:
        saving.push(turn, job, job.way.flight)


def give_up_at(world: World, job: Job) -> float | None:
    """How long a job that is gone waits for its last checkpoint to get through."""
    gone = job.life in (Life.RELEASING, Life.WAITING) and job.hold.release is None
    if not gone or not job.way.uncommitted:
        return None
    if world.drain.on and job.exited_at < world.drain.deadline:
        return world.drain.deadline
    return job.exited_at + world.settings.flush_limit


def give_up(turn: Turn, job: Job) -> None:
    """Go on without it."""
    turn.report("gave_up", job.name, reason=settle.phase(job))
    saving.drop(turn, job, "there was no more time")


def stop_at(world: World, job: Job) -> float | None:
    """When running processes are ended from outside."""
    if job.life is not Life.RUNNING:
        return None
    if job.hold.lost or job.unsaved:
        return NOW
    opened, times = job.way.ask, []
    if opened is not None and job.way.answer_committed and opened.saved_at is not None:
        times.append(opened.saved_at + world.settings.exit_wait)
    if job.stop_since is not None:
        times.append(job.stop_since + world.settings.stop_wait)
    return min(times, default=None)


def stop(turn: Turn, job: Job) -> None:
    """Saved, or without the right to run, or out of time."""
    reason = "stopped on request" if job.stop_since is not None else "the machine goes away"
    if job.hold.lost:
        reason = job.hold.lost
    left = turn.world.left(turn.now)
    grace = turn.settings.stop_grace
    job.live("stop")
    turn.do(Stop(job.name, grace if left is None else max(1.0, min(grace, left)), reason))


def release_at(world: World, job: Job) -> float | None:
    """The processes are gone and nothing more can be saved: give the lease back."""
    hold = job.hold
    if job.life is not Life.RELEASING or hold.release is not None or not hold.linked:
        return None
    if job.way.uncommitted or world.drain.open_for(job.name):
        return None
    if job.must_record and (hold.take is not None or not hold.maybe):
        return None  # the take comes first
    return max(hold.release_at, job.linger_until)


def release(turn: Turn, job: Job) -> None:
    """Say in head how it ended; without a lease there is nothing to say."""
    if not job.hold.maybe:
        life.given_back(turn, job)
        return
    job.hold.take = None
    job.hold.release = turn.next_number()
    if job.stop_since is not None and job.outcome is not Outcome.FINISHED:
        job.outcome = Outcome.STOPPED
    told = job.outcome if job.final and job.outcome else Outcome.PREEMPTED
    turn.do(Release(job.name, job.hold.release, told, job.crashes))


def take_at(world: World, job: Job) -> float | None:
    """When the lease is wanted.

    A machine under notice takes no lease for a job that does not run on it. Processes
    that run, or the last words of ones that did, need their own lease back when the
    replicator lost it (it crashed).
    """
    hold = job.hold
    if not hold.linked or hold.take is not None or hold.release is not None:
        return None
    if job.life is Life.WAITING:
        return seating.wants_at(world, job) if seating.has_room(job) else None
    if job.life is Life.TAKING:
        free = not world.drain.on and job.stop_since is None
        wanted = free and job.present and not job.way.uncommitted
    elif job.life is Life.RUNNING:
        wanted = hold.generation is None and not hold.lost
    else:
        wanted = job.life is Life.RELEASING and hold.generation is None and job.must_record
        wanted = wanted and not hold.maybe
    return hold.take_at if wanted else None


def take(turn: Turn, job: Job) -> None:
    """Ask for the lease (and what it restores)."""
    job.hold.watch = None  # a take ends it
    job.hold.take = turn.next_number()
    job.hold.maybe = True
    if job.life is Life.WAITING:
        job.live("take")
    turn.do(Take(job.name, job.hold.take))


def watch_at(world: World, job: Job) -> float | None:
    """One that waits for room must know whether another machine runs it."""
    free = job.life is Life.WAITING and job.hold.linked and not job.hold.maybe
    return NOW if free and job.hold.watch is None and job.name in world.queue else None


def watch(turn: Turn, job: Job) -> None:
    """It goes on until the take."""
    job.hold.watch = turn.next_number()
    turn.do(Watch(job.name, job.hold.watch))


def save_at(world: World, job: Job) -> float | None:
    """When the next background save is due."""
    way = job.way
    quiet = not world.drain.on and job.stop_since is None and not job.hold.lost
    if job.life is not Life.RUNNING or not quiet or way.still_asked:
        return None
    if way.flight is not None and way.flight.tries == 0:
        return None  # an upload that works comes first; one that fails must not end saving
    if way.saved_at is None:
        pause, since = cadence.first(job.policy.interval, world.settings), job.running_since
    else:
        pause = cadence.interval(job.policy.interval, tuple(way.costs), world.settings)
        since = way.saved_at
    return None if pause is None else since + pause


def save(turn: Turn, job: Job) -> None:
    """One ask; it stays open until it is answered."""
    saving.ask(turn, job, "periodic")


@dataclass(frozen=True)
class Rule:
    """A question and a deed."""

    at: Callable[[World, Job], float | None]
    do: Callable[[Turn, Job], None]


RULES: tuple[Rule, ...] = (
    Rule(settle.settle_at, settle.settle),
    Rule(hand_back_at, hand_back),
    Rule(end_at, end),
    Rule(leave_ask_at, leave_ask),
    Rule(move_ask_at, move_ask),
    Rule(push_at, push),
    Rule(give_up_at, give_up),
    Rule(stop_at, stop),
    Rule(release_at, release),
    Rule(take_at, take),
    Rule(watch_at, watch),
    Rule(save_at, save),
)


@dataclass(frozen=True)
class MachineRule:
    """The same, for the machine."""

    at: Callable[[World], float | None]
    do: Callable[[Turn], None]


MACHINE_RULES: tuple[MachineRule, ...] = (
    MachineRule(pacing.replan_at, pacing.replan),
    MachineRule(seating.seat_at, seating.seat),
    MachineRule(settle.close_at, settle.close),
    MachineRule(settle.undrain_at, settle.undrain),
)
