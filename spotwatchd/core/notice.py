"""Notices: what a repeated, sliding, late, stale, second or withdrawn one means.

The sources repeat a notice at every poll, so all of this is idempotent. The deadline is
a time of CLOCK_BOOTTIME already; nothing here knows another clock.
"""

from __future__ import annotations

from spotwatchd.core.actions import DrainMoved, DrainOpened
from spotwatchd.core.events import HintSeen, NoticeGone, NoticeSeen
from spotwatchd.core.job import NOW, Job
from spotwatchd.core.settings import CoreSettings
from spotwatchd.core.turn import Turn
from spotwatchd.core.words import Life, Notice


def effective(deadline: float, now: float, settings: CoreSettings) -> float | None:
    """The deadline to keep, or None when the notice is stale.

    A time that has just passed can still be meant (EC2 gives the operating system a few
    minutes after it), so it gets a short deadline of its own. One that is long past is
    what EC2 leaves behind when it failed to take the machine.
    """
    if deadline > now:
        return deadline
    return now + settings.past_grace if now - deadline <= settings.past_window else None


def on_notice(turn: Turn, event: NoticeSeen) -> None:
    """A source shows a notice, for the first or the thousandth time."""
    notice, drain = event.notice, turn.drain
    identity = (notice.source, notice.key)
    if identity in drain.over:
        return
    deadline = effective(notice.deadline, turn.now, turn.settings)
    if drain.on:
        _another(turn, notice, deadline)
    elif deadline is None:
        drain.over.append(identity)
        late = round(turn.now - notice.deadline, 3)
        turn.report("notice_stale", source=notice.source, told=notice.told, seconds_past=late)
    else:
        _open(turn, notice, deadline)


def _open(turn: Turn, notice: Notice, deadline: float) -> None:
    drain = turn.drain
    concerned = [job for job in turn.world.jobs.values() if job.life is not Life.DONE]
    drain.move("notice")
    drain.number = turn.next_number()
    drain.notice, drain.deadline = notice, deadline
    drain.jobs = {job.name: None for job in concerned}
    drain.showing = {notice.source}
    drain.belongs((notice.source, notice.key))
    turn.world.link.begin()
    turn.do(DrainOpened(drain.number, notice, tuple(drain.jobs)))
    for job in concerned:
        _hurry(job)


def _hurry(job: Job) -> None:
    """A pause before the next try was chosen when there was time."""
    if job.way.flight is not None:
        job.way.flight.retry_at = NOW
    job.hold.release_at = NOW


def _another(turn: Turn, notice: Notice, deadline: float | None) -> None:
    """A notice while a drain is on: at most it moves the deadline earlier.

    A later time is no longer time: a source whose time slides would never let the drain end.
    """
    drain = turn.drain
    drain.showing.add(notice.source)
    drain.belongs((notice.source, notice.key))
    if deadline is not None and deadline < drain.deadline - turn.settings.jitter:
        drain.notice, drain.deadline = notice, deadline
        turn.do(DrainMoved(drain.number, deadline))


def on_gone(turn: Turn, event: NoticeGone) -> None:
    """A source shows nothing any more; the drain ends (once settled) when none does."""
    turn.drain.showing.discard(event.source)


def new_hint(turn: Turn, event: HintSeen) -> bool:
    """Whether the hint is news: it repeats at every poll, and may slide like a notice."""
    world = turn.world
    if event.key == world.hint_key or turn.now < world.hint_until or turn.drain.on:
        return False
    world.hint_key = event.key
    world.hint_until = turn.now + turn.settings.hint_decay
    return True
