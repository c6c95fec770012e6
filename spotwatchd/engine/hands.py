"""Carries out what the core decides. Every method returns at once.

What takes time runs as a task of its own or in another process, and answers with an event.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

from spotwatchd.core import actions as do
from spotwatchd.core import events as ev
from spotwatchd.core.resources import Queued
from spotwatchd.core.words import Life, Notice, Seal, Settlement
from spotwatchd.engine import decisions, readiness, text
from spotwatchd.engine.house import House
from spotwatchd.engine.orders import order_of
from spotwatchd.engine.preparing import NotReady
from spotwatchd.engine.records import Record
from spotwatchd.errors import SpotwatchError


def seal_document(seal: Seal) -> dict[str, Any]:
    """A seal as the replicator's protocol writes it."""
    return {"path": seal.path, "step": seal.step, "mark": seal.mark}


class Hands:
    """Actions to rooms."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._tasks: set[asyncio.Task[None]] = set()
        self._lives: dict[str, Life] = {}
        self._notice: Notice | None = None

    # -- what the core wants -------------------------------------------------------------

    def act(self, action: do.Action) -> None:
        """Start ``action``."""
        match action:
            case do.DrainOpened():
                self._drain_opened(action)
            case do.DrainMoved():
                self._keep_drain(action.drain, action.deadline)
            case do.DrainClosed() | do.Undrained():
                self._drain_over(action)
            case do.Report():
                self._report(action)
            case _:
                record = self._house.records.get(action.job)
                if record is not None:  # else removed while the action was under way
                    self._act_for(record, action)

    def _act_for(self, record: Record, action: do.Action) -> None:
        match action:
            case do.Ask():
                self._ask(record, action)
            case do.Withdraw():
                record.board.withdraw(action.number)
                record.events.send({"event": "withdrawn", "job": record.name})
            case do.Start():
                self._spawn(self._start(record, action), f"start-{record.name}")
            case do.Stop():
                self._stop(record, action)
            case do.JobSettled():
                self._settled(record, action)
            case do.Decided():
                self._decided(record, action)
            case _:
                self._command(record, action)

    def _command(self, record: Record, action: do.Action) -> None:
        """What the job's replicator does."""
        match action:
            case do.Take():
                record.link.send({"do": "take", "no": action.no})
            case do.Watch():
                fresh = record.kept.attempt == 0 and not record.kept.foreign
                record.link.send({"do": "watch", "no": action.no, "fresh": fresh})
            case do.CancelUpload():
                record.link.send({"do": "cancel", "no": action.no})
            case do.Pace():
                record.link.send({"do": "pace", "bytes_per_second": action.rate})
            case do.Upload():
                self._upload(record, action)
            case do.Commit():
                self._commit(record, action)
            case do.Release():
                self._release(record, action)
            case _:
                raise TypeError(f"no hand for {action}")

    def _ask(self, record: Record, action: do.Ask) -> None:
        what = "none" if action.action is None else action.action.value
        record.board.ask(action.number, deadline=action.deadline, cause=action.cause, action=what)
        fresh = action.number != record.kept.asked
        record.kept.asked = action.number
        record.kept.told = action.cause in ("notice", "stop")
        left = None if action.deadline is None else action.deadline - self._house.clock()
        record.events.send(
            {
                "event": "ask",
                "job": record.name,
                "number": action.number,
                "cause": action.cause,
                "action": what,
                "seconds_left": left,
            }
        )
        if record.kept.told and fresh:
            self._signal(record)
            count = text.processes(len(record.processes))
            self._house.receipts.mark(record.name, "asked", count)
            record.link.send({"do": "weight", "level": "urgent"})
        self._house.keep(record)

    def _signal(self, record: Record) -> None:
        if record.ask_signal is not None and record.managed:
            self._house.launcher.ask(record.name)

    def _upload(self, record: Record, action: do.Upload) -> None:
        record.link.send(
            {
                "do": "upload",
                "no": action.no,
                "seal": seal_document(action.seal),
                "cause": action.cause,
                "deadline": action.deadline,
            }
        )

    def _commit(self, record: Record, action: do.Commit) -> None:
        record.link.send(
            {
                "do": "commit",
                "no": action.no,
                "seal": seal_document(action.seal),
                "cause": action.cause,
                "deadline": action.deadline,
                "interruption": self._house.receipts.travelling(record.name),
            }
        )

    def _release(self, record: Record, action: do.Release) -> None:
        record.kept.outcome = action.outcome.value
        self._house.keep(record)
        record.link.send(
            {
                "do": "release",
                "no": action.no,
                "outcome": action.outcome.value,
                "crashes": action.crashes,
                "interruption": self._house.receipts.travelling(record.name),
            }
        )

    async def _start(self, record: Record, action: do.Start) -> None:
        record.kept.attempt = action.attempt
        record.kept.finished = record.kept.told = False
        record.kept.exit_status = None
        record.kept.gpus = None if action.gpus is None else list(action.gpus)
        record.restored = action.resume
        record.cause = action.cause
        record.awaiting_first_step = True
        record.link.send({"do": "weight", "level": "background"})  # an earlier stop was urgent
        self._house.keep(record)

        def gone(status: int | None) -> None:
            self._exited(record, action.attempt, status)

        try:
            order = await readiness.ready(
                self._house, record, action, order_of(self._house.config, record)
            )
            record.kept.running = True
            self._house.keep(record)
            # A daemon that comes back must know which attempt has which GPUs.
            await self._house.journal.flush()
            await self._house.launcher.start(order, gone)
        except NotReady as error:
            readiness.blocked(self._house, record, action, error)
        except SpotwatchError as error:
            record.kept.reason, record.kept.running = str(error), False
            self._house.tell(record, "start_failed", str(error))
            self._house.post(ev.StartFailed(record.name, action.no, error.what))
        else:
            self._house.post(ev.Started(record.name, action.no))

    def _exited(self, record: Record, attempt: int, status: int | None) -> None:
        self._house.exited(record, attempt, status)

    def _stop(self, record: Record, action: do.Stop) -> None:
        if record.managed:
            self._house.launcher.stop(record.name)
        else:
            self._spawn(self._end_processes(record, action.grace), f"stop-{record.name}")

    @staticmethod
    async def _end_processes(record: Record, grace: float) -> None:
        for process in list(record.processes.values()):
            process.send(signal.SIGTERM)
        await asyncio.sleep(grace)
        for process in list(record.processes.values()):
            process.send(signal.SIGKILL)

    # -- the drain -----------------------------------------------------------------------

    def _drain_opened(self, action: do.DrainOpened) -> None:
        notice = self._notice = action.notice
        self._keep_drain(action.drain, notice.deadline)
        for each in self._house.records.values():
            readiness.give_up(each, readiness.GOES_AWAY)
        left = notice.deadline - self._house.clock()
        line = text.noticed(notice, left, self._house.wall())
        for name in action.jobs:
            record = self._house.records.get(name)
            if record is not None:
                self._house.receipts.begin(action.drain, notice, name, **record.for_receipt)
                self._house.tell(record, "notice", line, seconds_left=left)
        if not action.jobs:
            self._house.log.warning(line)

    def _keep_drain(self, drain: int, deadline: float) -> None:
        notice = self._notice
        if notice is None:
            return
        self._house.journal.post(
            "drain",
            str(drain),
            {
                "boot_id": self._house.boot_id,
                "source": notice.source,
                "action": notice.action.value,
                "deadline": deadline,
                "key": notice.key,
                "told": notice.told,
            },
        )

    def _drain_over(self, action: do.DrainClosed | do.Undrained) -> None:
        if isinstance(action, do.DrainClosed):
            self._house.log.info("interruption settled", seconds_to_spare=round(action.spare, 3))
            return
        self._house.journal.post("drain", str(action.drain), None)
        for record in self._house.records.values():
            record.link.send({"do": "weight", "level": "background"})
        self._house.log.info("this machine goes on", reason=action.reason)

    def _decided(self, record: Record, action: do.Decided) -> None:
        line = decisions.sentence(action)
        self._house.receipts.decide(record.name, line)
        self._house.tell(record, "decided", line)

    def _settled(self, record: Record, action: do.JobSettled) -> None:
        notice = self._notice
        spare = 0.0 if notice is None else notice.deadline - self._house.clock()
        self._house.receipts.settle(action, spare, record.step)
        if action.settlement is Settlement.COMMITTED:
            step = "nothing to save" if action.step is None else f"step {action.step:,}"
            line = f"{step} committed and verified · {text.span(max(spare, 0.0))} to spare"
        else:
            line = f"NOT saved in time: {action.reason}"
        self._house.tell(
            record,
            "settled",
            line,
            settlement=action.settlement.value,
            reason=action.reason,
            step=action.step,
            spare_seconds=spare,
        )

    def _report(self, action: do.Report) -> None:
        fields = dict(action.fields)
        record = self._house.records.get(action.job) if action.job else None
        if record is None:
            self._house.log.info(action.word, **fields)
            return
        if "reason" in fields:
            record.kept.reason = str(fields["reason"])
            if not self._house.is_news(record, f"{action.word} {fields['reason']}"):
                return
        self._house.log.info(action.word, job=record.name, **fields)

    # -- what the core is told, seen on its way in ----------------------------------------

    def observe(self, event: ev.Event) -> None:
        """Note for receipts and status what an event says."""
        match event:
            case ev.Sealed():
                self._sealed(event)
            case ev.StopRequested() | ev.LeaseLost():
                record = self._house.records.get(event.job)
                readiness.give_up(record, "nobody wants it to start here any more")
            case ev.Committed():
                record = self._house.records.get(event.job)
                if record is not None:
                    record.committed_step = event.seal.step
                    self._house.receipts.mark(event.job, "committed", event.checkpoint_id)
            case _:
                return

    def _sealed(self, event: ev.Sealed) -> None:
        record = self._house.records.get(event.job)
        if record is None:
            return
        record.sealed_step = event.seal.step
        record.step = max(record.step or 0, event.seal.step)
        if record.kept.told:
            self._house.receipts.mark(event.job, "sealed", f"step {event.seal.step:,}")
        record.events.send({"event": "sealed", "job": event.job, "step": event.seal.step})

    # -- after each turn of the core -------------------------------------------------------

    def after_turn(self) -> None:
        """Tell listeners of jobs whose life changed."""
        for name, record in list(self._house.records.items()):
            view = self._house.core.view(name)
            if view is not None:
                self._queued(record, view.queued)
            if view is None or self._lives.get(name) is view.life:
                continue
            self._lives[name] = view.life
            record.events.send({"event": "state", "job": name, "state": view.life.value})
            if view.life is Life.DONE:
                self._over(record, view.outcome.value if view.outcome else None)

    def _queued(self, record: Record, why: Queued | None) -> None:
        reason = None if why is None else why.reason
        if reason is None or reason == record.queued:
            record.queued = reason
            return
        record.queued = reason
        line = f"queued: {reason}" if self._house.is_news(record, f"queued {reason}") else None
        self._house.tell(record, "queued", line, reason=reason)

    def _over(self, record: Record, outcome: str | None) -> None:
        record.kept.ended = True
        record.kept.outcome = outcome or record.kept.outcome
        self._house.keep(record)
        self._house.tell(
            record,
            "ended",
            f"{record.kept.outcome}",
            outcome=record.kept.outcome,
            exit_status=record.kept.exit_status,
        )
        record.link.send({"do": "quit"})
        if record.restart:
            self._house.again(record)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A task of ours never raises: this is a bug, and hiding it would lose a job.
            self._house.log.error("bug", task=task.get_name(), exc_info=task.exception())
            os.kill(os.getpid(), signal.SIGTERM)

    async def close(self) -> None:
        """Let go of what is under way; jobs and replicators go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
