"""The way of one checkpoint: ask, seal, upload, commit.

The same way for all causes, so that what a notice needs is exercised all day long.
Two facts are kept apart: *sealed* (the job said so, or a scan found it) and
*committed* (``Committed`` said so, nothing else). Completions are matched by number;
only the fact in a late ``Committed`` outlives its number.
"""

from __future__ import annotations

import statistics

from spotwatchd.core import budget
from spotwatchd.core.actions import Ask, CancelUpload, Commit, Upload, Withdraw
from spotwatchd.core.events import CommitFailed, Committed, Sealed, Uploaded, UploadFailed
from spotwatchd.core.job import NOW, Flight, Job, Known, OpenAsk
from spotwatchd.core.policy import backoff
from spotwatchd.core.turn import Turn
from spotwatchd.core.words import Life, Outcome, Saving, Seal

_MEASURABLE = 0.05  # seconds: a shorter upload is mostly waiting for answers


def ask(turn: Turn, job: Job, cause: str) -> None:
    """Publish a new ask; it replaces the open one."""
    deadline = turn.drain.deadline if cause == "notice" else None
    job.asked += 1
    job.way.ask = OpenAsk(job.asked, cause, deadline, turn.now, job.way.order)
    if job.way.ask.leave:
        job.told = job.asked
    job.save("ask")
    publish(turn, job, job.way.ask)


def publish(turn: Turn, job: Job, opened: OpenAsk) -> None:
    """Put the ask on the board, again when its deadline moved."""
    notice = turn.drain.notice if opened.cause == "notice" else None
    action = notice.action if notice else None
    turn.do(Ask(job.name, opened.number, opened.cause, opened.deadline, action))


def withdraw(turn: Turn, job: Job) -> None:
    """Take the open ask off the board."""
    opened, job.way.ask = job.way.ask, None
    if opened is None:
        return
    turn.do(Withdraw(job.name, opened.number))
    if job.saving is Saving.ASKED:
        job.save("withdrawn")


def accepts_seals(job: Job) -> bool:
    """A seal reported now can still be committed by this owner."""
    if job.hold.lost or job.hold.release is not None:
        return False
    if job.life is Life.WAITING:
        return job.hold.generation is not None
    return job.alive or (job.life is Life.RELEASING and job.ran)


def on_sealed(turn: Turn, job: Job, event: Sealed) -> None:
    """The job, or a scan of its directory, reports a complete checkpoint."""
    if not accepts_seals(job):
        turn.report("seal_ignored", job.name, step=event.seal.step, life=job.life.value)
        return
    known = job.way.find(event.seal)
    if known is not None:
        _answer(turn, job, known, event)
    elif _is_old(job, event):
        turn.report("seal_ignored", job.name, step=event.seal.step, newest=_newest_step(job))
    else:
        _take_new(turn, job, event)


def _take_new(turn: Turn, job: Job, event: Sealed) -> None:
    before = job.way.ask
    known = job.way.learn(event.seal, turn.now - max(0.0, event.flush_seconds or 0.0))
    job.way.saved_at = turn.now
    job.linger_until = NOW
    if event.flush_seconds is not None:
        job.way.costs.append(event.flush_seconds)
    if before is not None and before.answered is None and _answers(turn, job, before, event):
        _mark_answered(turn, job, before, known, event)
    if before is None or not before.leave:
        _note_spared(job, event.ask)
    cause = before.cause if before is not None and before.answered == known.order else "own"
    enqueue(job, Flight(known, cause, early=job.meter.sealed()))


def _note_spared(job: Job, number: int) -> None:
    """A client that answers a later ask went on training: it did not leave when told.

    A program without the client gives no such proof. Its exit counts as preempted for
    the rest of the attempt, which at worst repeats the steps since its last checkpoint.
    """
    if number > job.told:
        job.told = 0


def offer(turn: Turn, job: Job, seal: Seal) -> None:
    """A checkpoint on disk that nobody reported: it goes up, but answers no ask.

    It may be older than the ask.
    """
    if job.way.find(seal) is None and seal.step > _newest_step(job) and accepts_seals(job):
        known = job.way.learn(seal, turn.now)
        _shift(job)
        enqueue(job, Flight(known, "own"))


def _shift(job: Job) -> None:
    """What was just learned counts as sealed before the open ask."""
    if job.way.ask is not None:
        job.way.ask.after = job.way.order


def _is_old(job: Job, event: Sealed) -> bool:
    """Whether the report was overtaken by that of a later seal.

    Only the answer to an ask that nobody answered yet may go back in steps (a job that
    was rolled back on purpose); anything else below the newest step is an old message.
    """
    return event.seal.step < _newest_step(job) and event.ask <= job.way.answered_number


def _newest_step(job: Job) -> int:
    return job.way.sealed.seal.step if job.way.sealed else -1


def _answers(turn: Turn, job: Job, opened: OpenAsk, event: Sealed) -> bool:
    """Whether a seal that is new to us holds what the ask wanted.

    An ask without a deadline is content with any new seal. An ask to leave wants the
    state of after the ask, or the steps since would be lost: a client says so by number
    or by how long the save took; of a program without the client the order of arrival
    is all there is.
    """
    if event.ask >= opened.number or not opened.leave:
        return True
    if event.ask > 0:
        return False
    if event.flush_seconds is not None:
        return turn.now - event.flush_seconds >= opened.at
    return not job.joined


def _answer(turn: Turn, job: Job, known: Known, event: Sealed) -> None:
    """The newest seal may also answer an ask that came after it: no step since.

    An older one may not, whatever number a repeated report of it carries.
    """
    opened = job.way.ask
    if opened is None or opened.answered is not None or event.ask < opened.number:
        return
    if known is not job.way.sealed:
        return
    _mark_answered(turn, job, opened, known, event)
    if job.saving is Saving.ASKED:
        job.save("answered")
    close_answered(turn, job)


def _mark_answered(turn: Turn, job: Job, opened: OpenAsk, known: Known, event: Sealed) -> None:
    opened.answered = known.order
    job.way.answered_number = opened.number
    if event.flush_seconds is None and not opened.leave:
        job.way.costs.append(turn.now - opened.at)


def enqueue(job: Job, new: Flight) -> None:
    """Send a new seal on its way, or let it wait behind the one that is under way.

    Which of the two is better is decided by pacing.py.
    """
    way = job.way
    if way.flight is None:
        way.flight = new
        job.save("sealed")
        return
    way.waiting = new


def overtake(turn: Turn, job: Job, flight: Flight) -> None:
    """The newer checkpoint that waits takes the place of the one under way."""
    _cancel(turn, job, flight)
    _end(job, "dropped")


def rest(turn: Turn, job: Job, flight: Flight) -> None:
    """Stop the upload for now; without another word it goes on after the deadline."""
    if flight.no is not None and job.saving is Saving.UPLOADING:
        _cancel(turn, job, flight)
        flight.no, flight.resting, flight.retry_at = None, True, turn.drain.deadline
        job.meter.begin(turn.now)
        job.save("again")


def go_on(flight: Flight) -> None:
    """An upload that was stopped for now is wanted again."""
    if flight.resting:
        flight.resting, flight.retry_at = False, NOW


def keep_older(turn: Turn, job: Job, flight: Flight) -> bool:
    """Whether the upload under way goes on, as far as its duration alone can tell."""
    typical = statistics.median(job.way.seconds) if job.way.seconds else None
    left = turn.world.left(turn.now)
    return budget.keep_older(turn.now - flight.since, typical, left)


def _cancel(turn: Turn, job: Job, flight: Flight) -> None:
    if flight.no is not None:
        turn.do(CancelUpload(job.name, flight.no))


def _end(job: Job, how: str) -> None:
    """The seal under way is done with; the one that waited follows."""
    way = job.way
    way.flight, way.waiting = way.waiting, None
    if way.flight is not None:
        job.save(f"{how}, newer waits")
    else:
        job.save(f"{how}, still asked" if way.still_asked else how)


def drop(turn: Turn, job: Job, reason: str) -> None:
    """Give up what is not committed."""
    if job.way.flight is None:
        return
    _cancel(turn, job, job.way.flight)
    job.way.waiting = None
    job.way.failed = reason
    _end(job, "dropped")


def forget_number(job: Job) -> None:
    """Nobody knows what became of the outstanding action: it will be issued again."""
    flight = job.way.flight
    if flight is None or flight.no is None:
        return
    flight.no = None
    flight.retry_at = NOW
    job.save("again")


def push(turn: Turn, job: Job, flight: Flight) -> None:
    """Issue the upload."""
    flight.no = turn.next_number()
    flight.since = turn.now
    flight.sent = flight.size = None
    flight.resting = False
    job.meter.begin(turn.now)
    _note_company(turn, job, flight)
    turn.do(Upload(job.name, flight.no, flight.known.seal, flight.cause, turn.deadline()))


def _note_company(turn: Turn, job: Job, flight: Flight) -> None:
    """Uploads that share the link say nothing of what one alone can do."""
    flight.alone = job.pace is None
    for other in turn.world.jobs.values():
        beside = other.way.flight
        if other is not job and beside is not None and other.saving is Saving.UPLOADING:
            flight.alone = beside.alone = False


def on_uploaded(turn: Turn, job: Job, event: Uploaded) -> None:
    """All bytes are in the store; now head may list them."""
    flight = job.way.flight
    if flight is None or flight.no != event.no or job.saving is not Saving.UPLOADING:
        return
    _measure(turn, job, flight, event)
    job.save("uploaded")
    turn.do(Commit(job.name, event.no, flight.known.seal, flight.cause, turn.deadline()))


def _measure(turn: Turn, job: Job, flight: Flight, event: Uploaded) -> None:
    """Figures for the budget: how long, how many bytes, how fast."""
    way, sent = job.way, event.size if event.sent is None else event.sent
    flight.uploaded_at = turn.now
    job.meter.begin(turn.now)
    way.seconds.append(event.seconds)
    way.sizes.append(float(min(event.size, sent + flight.early)))
    if flight.alone and event.seconds >= _MEASURABLE:
        way.rates.append(sent / event.seconds)


def on_push_failed(turn: Turn, job: Job, event: UploadFailed | CommitFailed) -> None:
    """An upload or commit failed: again under a new number, unless that cannot help."""
    flight = job.way.flight
    wanted = Saving.UPLOADING if isinstance(event, UploadFailed) else Saving.COMMITTING
    if flight is None or flight.no != event.no or job.saving is not wanted:
        return
    turn.report("push_failed", job.name, reason=event.reason, final=event.final)
    if event.final:
        _fail(turn, job, flight, event.reason)
        return
    flight.tries += 1
    flight.no = None
    limits = turn.settings.push_backoff
    left = turn.world.left(turn.now)
    pause = budget.retry_delay(backoff(flight.tries, limits), limits[0], left)
    flight.retry_at = turn.now + pause
    job.save("again")


def _fail(turn: Turn, job: Job, flight: Flight, reason: str) -> None:
    if flight.known is job.way.sealed:
        job.way.failed = reason
    opened = job.way.ask
    _end(job, "failed")
    if opened is not None and not opened.leave and opened.answered == flight.known.order:
        withdraw(turn, job)


def on_committed(turn: Turn, job: Job, event: Committed) -> None:
    """Head lists the checkpoint: a fact, whatever number it carries."""
    known = job.way.find(event.seal)
    if known is None and event.no < job.hold.floor:
        turn.report("commit_of_older_life", job.name, step=event.seal.step)
        return
    flight = job.way.flight
    if flight is not None and flight.no == event.no and job.saving is Saving.COMMITTING:
        job.way.commits.append(turn.now - flight.uploaded_at)
    note_committed(turn, job, event.seal, event.no)
    if flight is not None and flight is job.way.flight and flight.no == event.no:
        _end(job, "committed")  # the replicator speaks of another seal than it was told


def note_committed(turn: Turn, job: Job, seal: Seal, no: int | None = None) -> None:
    """Note that the store has ``seal``, by action ``no``, and all that follows from it."""
    way = job.way
    known = way.find(seal) or _learn_late(turn, job, seal)
    if known is None or (way.committed is not None and known.order <= way.committed.order):
        return
    way.committed = known
    _note_progress(job, seal.step)
    if way.waiting is not None and way.waiting.known.order <= known.order:
        way.waiting = None
    if way.flight is not None and way.flight.known.order <= known.order:
        if way.flight.no != no:
            _cancel(turn, job, way.flight)
        _end(job, "committed")
    close_answered(turn, job)


def _learn_late(turn: Turn, job: Job, seal: Seal) -> Known | None:
    """A committed seal that nobody reported sealed (a replicator worked without us)."""
    if seal.step <= _newest_step(job):
        return None
    known = job.way.learn(seal, turn.now)
    _shift(job)
    return known


def _note_progress(job: Job, step: int) -> None:
    if step > job.base:
        job.base = step
        job.fruitless = 0
        # A crash whose last checkpoint got through is the first one since that step.
        ended_by_crash = not job.alive and job.outcome is Outcome.CRASHED
        job.crashes = min(job.crashes, 1) if ended_by_crash else 0


def close_answered(turn: Turn, job: Job) -> None:
    """Close the ask when the store has its answer.

    An ask to leave stays on the board: a rank that looks later must see it too.
    """
    opened, committed = job.way.ask, job.way.committed
    if opened is None or opened.answered is None or committed is None:
        return
    if committed.order < opened.answered:
        return
    if opened.leave:
        opened.saved_at = opened.saved_at or turn.now
    else:
        withdraw(turn, job)
