"""The core: every decision of the daemon, behind one door.

``handle(event, now)`` returns what is to be done; ``next_wakeup()`` says when to come
back if nothing happens. There is no clock, no I/O and no randomness in here, so a drain
of two minutes is tested in microseconds and every failure can be replayed.

How it works: an event is noted by its handler (life.py, saving.py, notice.py), which
changes state along the arrows of table.py and rarely decides anything. Then the rules
(rules.py) are carried out until none is due. A lost answer, a reconnect or a restart
leaves the state as it is, and the rules find again what has to be done: nothing is
"in the middle" of a procedure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from spotwatchd.core import events as e
from spotwatchd.core import life, measuring, notice, saving, seating, settle
from spotwatchd.core.actions import Action
from spotwatchd.core.job import Job
from spotwatchd.core.rules import MACHINE_RULES, RULES
from spotwatchd.core.settings import CoreSettings
from spotwatchd.core.turn import Turn, World
from spotwatchd.core.view import DrainView, JobView, StoryLine, of_drain, of_job, state_of
from spotwatchd.core.words import Life

__all__ = ["Core", "CoreSettings", "DrainView", "JobView", "StoryLine"]

# Each round carries out every rule that is due; a handful of rounds settle anything.
# More means two rules that undo each other: a defect that must not become a busy loop.
ROUNDS = 50


def _on_hint(turn: Turn, event: e.HintSeen) -> None:
    """Save early, keep training."""
    if not notice.new_hint(turn, event):
        return
    for job in turn.world.jobs.values():
        if _can_be_asked(job) and not job.way.still_asked:
            saving.ask(turn, job, "hint")


def _on_save_requested(turn: Turn, job: Job, _event: e.SaveRequested) -> None:
    """A person wants a checkpoint now."""
    if not _can_be_asked(job):
        turn.report("save_refused", job.name, life=job.life.value)
        return
    opened = job.way.ask
    leaves = opened is not None and opened.leave
    requested = opened is not None and opened.cause == "request" and job.way.still_asked
    if not leaves and not requested:
        saving.ask(turn, job, "request")


def _can_be_asked(job: Job) -> bool:
    return job.life is Life.RUNNING and not job.hold.lost


def _on_removed(turn: Turn, job: Job, _event: e.JobRemoved) -> None:
    """Forget the job; a drain does not wait for what is gone."""
    settle.abandon(turn, job, "the job was removed")
    del turn.world.jobs[job.name]


def _on_woken(_turn: Turn, _event: e.Woken) -> None:
    """The rules do the rest."""


MACHINE_HANDLERS: dict[type, Callable[[Turn, Any], None]] = {
    e.NoticeSeen: notice.on_notice,
    e.NoticeGone: notice.on_gone,
    e.HintSeen: _on_hint,
    e.Woken: _on_woken,
    e.ResourcesSeen: seating.on_resources,
    e.JobAdded: life.on_added,
}

JOB_HANDLERS: dict[type, Callable[[Turn, Job, Any], None]] = {
    e.JobRemoved: _on_removed,
    e.ReplicatorUp: life.on_replicator_up,
    e.ReplicatorDown: life.on_replicator_down,
    e.Taken: life.on_taken,
    e.TakeFailed: life.on_take_failed,
    e.TakeWaits: seating.on_take_waits,
    e.Watched: seating.on_watched,
    e.LeaseLost: life.on_lease_lost,
    e.Released: life.on_released,
    e.ReleaseFailed: life.on_release_failed,
    e.Started: life.on_started,
    e.StartFailed: life.on_start_failed,
    e.Blocked: life.on_blocked,
    e.JobExited: life.on_exited,
    e.ProcessJoined: life.on_joined,
    e.ProcessLeft: life.on_left,
    e.Sealed: saving.on_sealed,
    e.SaveRequested: _on_save_requested,
    e.StopRequested: life.on_stop_requested,
    e.Uploaded: saving.on_uploaded,
    e.UploadFailed: saving.on_push_failed,
    e.Progress: measuring.on_progress,
    e.Growing: measuring.on_growing,
    e.Committed: saving.on_committed,
    e.CommitFailed: saving.on_push_failed,
}


class Core:
    """The state machine of one daemon.

    Args:
        settings: the numbers it goes by.
        first_number: smallest number for actions; the caller makes it larger than any it
            used before on this boot, so that completions of an earlier daemon are stale.
    """

    def __init__(self, *, settings: CoreSettings, first_number: int) -> None:
        self._world = World(settings, first_number)
        self._story: deque[StoryLine] = deque(maxlen=settings.story_lines)

    def handle(self, event: e.Event, now: float) -> list[Action]:
        """Note an event and return what is to be done, in this order.

        Args:
            event: what happened. Events about unknown jobs change nothing.
            now: seconds of CLOCK_BOOTTIME, never smaller than at the call before.
        """
        self._world.now = now
        turn = Turn(self._world, now)
        name = getattr(event, "job", None)
        before = state_of(self._world, name)
        self._note(turn, event)
        self._carry_out(turn)
        after = state_of(self._world, name)
        if turn.out or before != after:  # nothing is told per poll
            self._story.append(StoryLine(now, event, before, after, tuple(turn.out)))
        return turn.out

    def next_wakeup(self) -> float | None:
        """When to send ``Woken`` if nothing else happens (CLOCK_BOOTTIME), or None."""
        world = self._world
        times = [rule.at(world) for rule in MACHINE_RULES]
        times += [rule.at(world, job) for job in world.jobs.values() for rule in RULES]
        return min((at for at in times if at is not None), default=None)

    def story(self, job: str | None = None) -> list[StoryLine]:
        """What happened, oldest first, of all or of one job (bounded in length)."""
        return [line for line in self._story if job is None or _concerns(line, job)]

    def jobs(self) -> list[str]:
        """Names of the jobs it knows."""
        return list(self._world.jobs)

    def view(self, job: str) -> JobView | None:
        """A picture of one job, or None when it is unknown."""
        known = self._world.jobs.get(job)
        return of_job(self._world, known) if known else None

    def drain(self) -> DrainView | None:
        """A picture of the drain that is on, or None."""
        return of_drain(self._world)

    def _note(self, turn: Turn, event: e.Event) -> None:
        kind = type(event)
        if kind in MACHINE_HANDLERS:
            MACHINE_HANDLERS[kind](turn, event)
            return
        job = self._world.jobs.get(getattr(event, "job", ""))
        if job is not None:
            JOB_HANDLERS[kind](turn, job, event)

    def _carry_out(self, turn: Turn) -> None:
        for _ in range(ROUNDS):
            if not self._round(turn):
                return
        raise RuntimeError("the rules of the core do not come to rest")

    def _round(self, turn: Turn) -> bool:
        world, done = turn.world, False
        world.queue = seating.queued(world)
        for job in list(world.jobs.values()):
            for rule in RULES:
                at = rule.at(world, job)
                if at is not None and at <= turn.now:
                    rule.do(turn, job)
                    done = True
        for machine_rule in MACHINE_RULES:
            at = machine_rule.at(world)
            if at is not None and at <= turn.now:
                machine_rule.do(turn)
                done = True
        return done


def _concerns(line: StoryLine, job: str) -> bool:
    named = (getattr(thing, "job", None) for thing in (line.event, *line.actions))
    return job in named
