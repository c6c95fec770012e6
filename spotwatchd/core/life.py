"""The life of a job: take the lease, start, run, exit, give the lease back.

Handlers here only note what happened and follow the table; what is to be done next is
decided by the rules (rules.py), so that a lost answer or a reconnect needs no special way.
"""

from __future__ import annotations

from spotwatchd.core import policy, saving, seating, settle
from spotwatchd.core.actions import Pace, Start
from spotwatchd.core.drain import Drain
from spotwatchd.core.events import (
    Blocked,
    JobAdded,
    JobExited,
    LeaseLost,
    ProcessJoined,
    ProcessLeft,
    Released,
    ReleaseFailed,
    Started,
    StartFailed,
    StopRequested,
    TakeFailed,
    Taken,
)
from spotwatchd.core.events import ReplicatorDown as Down
from spotwatchd.core.events import ReplicatorUp as Up
from spotwatchd.core.job import NOW, Hold, Job
from spotwatchd.core.table import Phase
from spotwatchd.core.turn import Turn
from spotwatchd.core.words import Life, Outcome


def on_added(turn: Turn, event: JobAdded) -> None:
    """A job is registered, registered again, or found again after a restart."""
    job = turn.world.jobs.get(event.job)
    if job is None:
        turn.world.jobs[event.job] = _new(turn, event)
        return
    if job.life is Life.TAKING and seating.needs(job.policy) != seating.needs(event.policy):
        job.seat = None  # changed on another machine: what it got does not fit any more
    job.policy = event.policy
    job.present = True
    if job.life is Life.DONE and not event.ended:
        job.live("added again")
        job.stop_since = job.outcome = None
        job.unsaved = False
        job.fruitless, job.hold.take_at = 0, NOW
        job.blocked, job.remedy, job.blocked_tries = "", "", 0  # it may be there by now
        job.elsewhere, job.added_at = False, turn.now


def _new(turn: Turn, event: JobAdded) -> Job:
    first = Life.RUNNING if event.running else Life.WAITING
    first = Life.DONE if event.ended else first
    job = Job(event.job, event.policy, life=first, attempt=event.attempt, asked=event.asked)
    job.told = max(event.asked, 1) if event.told_to_leave else 0
    job.added_at = turn.now
    if first is Life.RUNNING:
        job.ran = True
        job.running_since = turn.now
        job.seat = seating.found_again(event.policy, event.gpus)
        _join_drain(turn.drain, event.job)
    return job


def _join_drain(drain: Drain, job: str) -> None:
    """A running job that is found while a drain is open is drained with the others."""
    if drain.phase is Phase.OPEN:
        drain.jobs.setdefault(job, None)


def on_replicator_up(turn: Turn, job: Job, event: Up) -> None:
    """The replicator is there and says what it knows."""
    on_replicator_down(turn, job, Down(job.name))
    hold = job.hold
    hold.linked = True
    hold.generation = event.generation
    hold.maybe = event.generation is not None
    if event.generation is not None:
        hold.last_generation = event.generation
    elif job.life is Life.WAITING:
        saving.drop(turn, job, "the lease is not held")
    if job.paced or event.generation is not None:
        # What cap it has is not known: it may be of an earlier life of the daemon.
        turn.do(Pace(job.name, job.pace))
    if event.committed is not None:
        saving.note_committed(turn, job, event.committed)
    if event.sealed is not None:
        if not job.alive:
            job.exited_at = turn.now  # the limit for its upload counts from here
        saving.offer(turn, job, event.sealed)


def on_replicator_down(_turn: Turn, job: Job, _event: Down) -> None:
    """Whatever was outstanding will be issued again once it is back."""
    job.hold.linked = False
    job.hold.take = job.hold.release = job.hold.watch = None
    job.meter.restart()
    saving.forget_number(job)


def on_taken(turn: Turn, job: Job, event: Taken) -> None:
    """The lease is held; a waiting job starts, a running one goes on."""
    hold = job.hold
    if hold.take != event.no:
        return
    before, hold.last_generation = hold.last_generation, event.generation
    hold.take, hold.floor, hold.generation = None, event.no, event.generation
    hold.take_tries, hold.take_at = 0, NOW
    if event.ended:
        _over_elsewhere(turn, job, event.ended)
    elif job.life is Life.TAKING:
        _begin(turn, job, event)
    elif before is not None and event.generation > before + 1:
        # In between somebody else ran the job: what runs here is a branch that lost.
        _fence(turn, job, f"generation {before + 1} was another machine's")
    elif event.restored is not None:
        saving.note_committed(turn, job, event.restored)


def _fence(turn: Turn, job: Job, reason: str) -> None:
    """Nothing of this attempt may reach the store any more."""
    saving.drop(turn, job, reason)
    if job.alive:
        job.hold.lost = reason
    elif job.life is Life.RELEASING:
        settle.abandon(turn, job, reason)
        job.ran = False  # how it ended is no longer ours to record
        job.outcome = Outcome.PREEMPTED


def _over_elsewhere(turn: Turn, job: Job, ended: str) -> None:
    """Head says that nothing is to be run; the take did not keep the lease."""
    job.hold.drop()
    _fence(turn, job, f"the job is {ended} already")
    if not job.alive:
        job.outcome = Outcome(ended)
        job.crashes = max(job.crashes, job.policy.max_crashes) if ended == "crashed" else 0
    if job.life is Life.TAKING:
        job.live("taken, ended")


def _begin(turn: Turn, job: Job, event: Taken) -> None:
    job.way.restart_from(event.restored, turn.now)
    job.crashes = event.crashes
    job.base = event.restored.step if event.restored else -1
    job.told = 0
    job.attempt = max(event.attempts, job.attempt + 1)
    if not job.policy.managed:
        _runs(turn, job, "taken, runs already")
        return
    if not seating.won(turn.world, job):
        job.unstarted += 1  # the rules hand it back
        return
    job.live("taken")
    job.start = turn.next_number()
    cause = job.cause or _cause_from_head(event, job.attempt - job.unstarted)
    given = None if job.policy.gpus is None or job.seat is None else job.seat.own
    turn.do(Start(job.name, job.start, job.attempt, event.restored, cause, given))


def _cause_from_head(event: Taken, attempt: int) -> str:
    """Why a job that this machine has never seen runs."""
    if event.crashes:
        return "crash"
    return "interruption" if event.restored is not None or attempt > 1 else "first"


def _runs(turn: Turn, job: Job, cause: str) -> None:
    job.live(cause)
    job.ran = True
    job.outcome = None
    job.running_since = turn.now


def on_take_failed(turn: Turn, job: Job, event: TakeFailed) -> None:
    """Later again."""
    hold = job.hold
    if hold.take != event.no:
        return
    hold.drop()
    hold.take_tries += 1
    hold.take_at = turn.now + policy.backoff(hold.take_tries, turn.settings.restart_backoff)
    turn.report("take_failed", job.name, reason=event.reason)
    if job.life is Life.TAKING:
        job.live("take failed")


def on_lease_lost(turn: Turn, job: Job, event: LeaseLost) -> None:
    """From here on nothing is committed, released or run under the old lease."""
    hold = job.hold
    if job.life is Life.TAKING:
        return  # news of an older lease: the take that is under way will tell
    hold.drop()
    turn.report("lease_lost", job.name, reason=event.reason)
    _fence(turn, job, f"lease lost: {event.reason}")


def on_started(turn: Turn, job: Job, event: Started) -> None:
    """The processes exist."""
    if job.life is Life.STARTING and job.start == event.no:
        job.start = None
        job.blocked = job.remedy = ""
        job.blocked_tries = job.unstarted = 0
        _runs(turn, job, "started")


def on_start_failed(turn: Turn, job: Job, event: StartFailed) -> None:
    """Nothing ran; counts against the crash budget, or it would be tried for ever."""
    if job.life is not Life.STARTING or job.start != event.no:
        return
    job.start = None
    turn.report("start_failed", job.name, reason=event.reason)
    job.outcome = Outcome.CRASHED
    job.cause = "restart"
    job.ran = True  # that it cannot start here is worth recording
    job.linger_until = NOW
    job.crashes += 1
    job.fruitless += 1
    job.exited_at = turn.now
    _leave(turn, job, "start failed")


def on_blocked(turn: Turn, job: Job, event: Blocked) -> None:
    """Something is missing here: no crash, and the lease is for a machine that has it."""
    if job.life is not Life.STARTING or job.start != event.no:
        return
    job.start = None
    news = event.what != job.blocked  # something was mended, and the next thing is missing
    job.blocked, job.remedy = event.what, event.remedy
    job.blocked_tries = 1 if news else job.blocked_tries + 1
    job.unstarted += 1
    turn.report("blocked", job.name, reason=event.what, remedy=event.remedy)
    job.outcome = Outcome.PREEMPTED
    job.linger_until = NOW
    job.exited_at = turn.now
    _leave(turn, job, "blocked")


def on_exited(turn: Turn, job: Job, event: JobExited) -> None:
    """All processes of the attempt are gone."""
    # Whoever wants it to run again says so anew, perhaps before the lease is given back.
    job.present = job.policy.managed
    if not job.alive or (job.policy.managed and event.attempt != job.attempt):
        return
    job.start = None
    job.ran = True
    job.exited_at = turn.now
    job.outcome = _outcome(job, event)
    job.crashes += job.outcome is Outcome.CRASHED
    job.fruitless += not (turn.drain.on and job.told > 0)
    job.cause = "crash" if job.outcome is Outcome.CRASHED else "interruption"
    job.linger_until = NOW if job.joined else turn.now + turn.settings.linger
    job.joined = False
    turn.report("exited", job.name, status=event.status, outcome=job.outcome.value)
    saving.withdraw(turn, job)
    _leave(turn, job, "exited")


def _outcome(job: Job, event: JobExited) -> Outcome:
    stopped = job.stop_since is not None
    if not job.policy.managed and event.status is None and not event.finished and not stopped:
        # Nobody can know the status of somebody else's child; whoever runs it decides.
        return Outcome.PREEMPTED
    return policy.outcome(event.status, finished=event.finished, told=job.told > 0, stopped=stopped)


def _leave(turn: Turn, job: Job, how: str) -> None:
    """No processes any more: give the lease back, or just wait when it is lost."""
    if not job.hold.lost:
        job.live(how)
        return
    job.hold.lost = ""
    job.cause = "restart"
    job.ran = False
    job.live(f"{how}, fenced")
    _pause(turn, job)


def _pause(turn: Turn, job: Job) -> None:
    """When the job may be taken again."""
    if job.fruitless:
        pause = policy.backoff(job.fruitless, turn.settings.restart_backoff)
        job.hold.take_at = max(job.hold.take_at, turn.now + pause)
    if job.blocked_tries:
        pause = policy.backoff(job.blocked_tries, turn.settings.blocked_backoff)
        job.hold.take_at = max(job.hold.take_at, turn.now + pause)


def on_released(turn: Turn, job: Job, event: Released) -> None:
    """Head says how the attempt ended."""
    if job.hold.release == event.no:
        given_back(turn, job)


def given_back(turn: Turn, job: Job) -> None:
    """The lease is given back, or there was none to give."""
    linked, take_at, last = job.hold.linked, job.hold.take_at, job.hold.last_generation
    job.hold = Hold(linked=linked, take_at=take_at, floor=job.hold.floor, last_generation=last)
    job.ran = False
    if job.final:
        job.outcome = job.outcome or Outcome.STOPPED
        job.live("released, over")
    else:
        job.live("released")
        _pause(turn, job)


def on_release_failed(turn: Turn, job: Job, event: ReleaseFailed) -> None:
    """Again: until head knows, or somebody else has the lease."""
    hold = job.hold
    if hold.release != event.no:
        return
    hold.release = None
    hold.release_tries += 1
    hold.release_at = turn.now + policy.backoff(hold.release_tries, turn.settings.restart_backoff)
    turn.report("release_failed", job.name, reason=event.reason)


def on_joined(_turn: Turn, job: Job, _event: ProcessJoined) -> None:
    """A process of the job speaks to us itself."""
    job.joined = True
    if not job.present:
        job.present = True
        job.hold.take_at = NOW  # who started it has waited already


def on_left(turn: Turn, job: Job, event: ProcessLeft) -> None:
    """One process less; ``JobExited`` says when it was the last."""


def on_stop_requested(turn: Turn, job: Job, event: StopRequested) -> None:
    """A person wants the job to save (or not) and end here."""
    job.unsaved = job.unsaved or not event.save
    if job.life is not Life.DONE and job.stop_since is None:
        job.stop_since = turn.now
        if job.life is Life.RELEASING and job.outcome is not Outcome.FINISHED:
            job.outcome = Outcome.STOPPED
