"""Answers for the socket: what control/desk.py asks of the rest of the daemon."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from typing import Any

from spotwatchd import __version__
from spotwatchd.control.bodies import (
    EXTERNAL,
    ControlBody,
    FinishBody,
    InterruptBody,
    JobBody,
    LogBody,
    ProcessBody,
    ProgressBody,
    SealBody,
)
from spotwatchd.control.desk import Peer
from spotwatchd.control.problems import Problem
from spotwatchd.core import events as ev
from spotwatchd.core.words import MachineAction, Notice, Seal
from spotwatchd.engine import answers, offers
from spotwatchd.engine.house import House
from spotwatchd.engine.policies import policy_of
from spotwatchd.engine.records import Record
from spotwatchd.engine.roster import Roster
from spotwatchd.engine.state import state_of, why
from spotwatchd.engine.text import to_go_on
from spotwatchd.engine.wishes import Wishes
from spotwatchd.errors import JobError, SpotwatchError
from spotwatchd.jobs.pidfd import Watched
from spotwatchd.wire.paths import BOARD_NAME

Document = dict[str, Any]


class FrontDesk:
    """The daemon's desk."""

    def __init__(self, house: House, roster: Roster) -> None:
        self._house = house
        self._roster = roster
        self._begun = house.clock()
        self._wishes = Wishes(house, roster)
        house.again = roster.again

    def owner(self, name: str) -> int | None:
        """The uid that owns job ``name``, or None when there is no such job."""
        record = self._house.records.get(name)
        return None if record is None else record.kept.uid

    def _record(self, name: str) -> Record:
        record = self._house.records.get(name)
        if record is None:
            raise JobError(f"no job {name!r} here", where="name", remedy="see: spotwatch status")
        return record

    # -- looking -------------------------------------------------------------------------

    async def status(self, uid: int) -> Document:
        """Watch, store, drain and the jobs that ``uid`` may see."""
        config = self._house.config
        store = {"url": config.store, "last_error": self._house.store_error}
        return {
            "version": 1,
            "daemon": {
                "version": __version__,
                "pid": os.getpid(),
                "machine": self._house.machine,
                "uptime_seconds": round(self._house.clock() - self._begun, 1),
                "socket": str(config.socket),
                "private": config.private,
            },
            "watch": self._house.watch(),
            "store": store if config.store else None,
            "drain": self._drain(),
            "jobs": [
                self._document(record)
                for record in self._house.records.values()
                if uid in (0, record.kept.uid)
            ]
            + offers.documents(self._house, uid),
        }

    def _drain(self) -> Document | None:
        drain = self._house.core.drain()
        if drain is None:
            return None
        return {
            "source": drain.notice.source,
            "action": drain.notice.action.value,
            "told": drain.notice.told,
            "seconds_left": round(drain.deadline - self._house.clock(), 3),
        }

    async def receipts(self, uid: int) -> list[Document]:
        """Receipts of interruptions, newest first, cut to what ``uid`` may see."""
        found = await self._house.journal.receipts(limit=200)
        if uid == 0:
            return found
        records = self._house.records
        return [
            each
            for each in found
            if each["job"] in records and records[each["job"]].kept.uid == uid
        ]

    async def job(self, name: str) -> Document:
        """One job."""
        return self._document(self._record(name))

    def _document(self, record: Record) -> Document:
        kept, view = record.kept, self._house.core.view(record.name)
        state = self._state(record)
        due = None if view is None or view.next_save is None else view.next_save
        return {
            "name": record.name,
            "state": state,
            "life": view.life.value if view else None,
            "outcome": kept.outcome,
            "exit_status": kept.exit_status,
            "attempt": kept.attempt,
            "step": record.step,
            "sealed_step": record.sealed_step,
            "committed_step": record.committed_step,
            "committed_at": record.committed_at,
            "next_save_seconds": None if due is None else round(due - self._house.clock(), 1),
            "processes": len(record.processes),
            "store": kept.store,
            "checkpoint_dir": kept.body.checkpoint_dir,
            "inside": str(record.inside.path),
            "output": str(record.attempt_directory / "output.log") if kept.attempt else None,
            "gpus": None if view is None or view.gpus is None else list(view.gpus),
            "gpus_wanted": kept.body.gpus,
            "priority": kept.body.priority,
            **why(view, kept, state, _to_go_on(record)),
            "resume_command": kept.body.resume_command,
            "run_id": kept.run_id,
            "uid": kept.uid,
        }

    def _state(self, record: Record) -> str:
        view = self._house.core.view(record.name)
        draining = self._house.core.drain() is not None
        return state_of(view, record.kept, draining=draining)

    # -- jobs and their processes -----------------------------------------------------------

    async def submit(self, peer: Peer, body: JobBody) -> tuple[Document, bool]:
        """Register a job. Returns it, and True when it is new."""
        record, new = await self._roster.register(peer.uid, peer.gid, body)
        if new:
            # An answer of 201 is a promise that a crash of the daemon does not break.
            await self._house.journal.flush()
        return self._document(record), new

    async def join(self, peer: Peer, pidfd: int, name: str, body: ProcessBody) -> Document:
        """Register a process. Takes ownership of ``pidfd``."""
        try:
            record = self._record(name)
            key = f"{peer.pid}-{peer.started}"
            self._check_room(record)
            _check_keeper(record, key, body)
        except SpotwatchError:
            os.close(pidfd)
            raise
        if key in record.processes:
            os.close(pidfd)
        else:
            record.processes[key] = Watched(pidfd, lambda: self._left(record, key))
            if not record.managed and len(record.processes) == 1:
                self._house.post(ev.JobAdded(name, policy_of(record.kept, self._house.config)))
            if body.keeper:
                record.keeper = key
            else:
                self._house.post(ev.ProcessJoined(name, key))
            if peer.inside:
                await self._contained(record, peer)
        if body.step is not None:
            record.step = body.step
        return self._resume_facts(record, inside=peer.inside)

    async def _contained(self, record: Record, peer: Peer) -> None:
        if await record.outside.joined(peer.pid):
            self._house.keep(record)
        elif self._house.is_news(record, "container"):
            self._house.log.warning(
                "what else runs in its container cannot be seen, and is not ended with it",
                job=record.name,
                fix="run spotwatchd as root and outside of containers, and give the container "
                "a pid namespace of its own",
            )

    def _check_room(self, record: Record) -> None:
        limit = self._house.config.jobs.max_processes
        if sum(len(each.processes) for each in self._house.records.values()) >= limit:
            raise JobError(
                f"process of job {record.name} is refused: {limit} processes are registered",
                where="jobs.max_processes",
                remedy="raise the limit in the daemon's configuration",
            )

    def _left(self, record: Record, key: str) -> None:
        record.processes.pop(key, None)
        self._house.post(ev.ProcessLeft(record.name, key))
        if record.keeper == key:
            record.keeper, record.taken = None, False
            record.outside.left(record.mark)
        if not record.managed and not record.processes:
            self._house.exited(record, record.kept.attempt, None)

    def _resume_facts(self, record: Record, *, inside: bool) -> Document:
        restored = record.restored
        resume = restored.path if restored and inside else record.resume_path
        return {
            "board": BOARD_NAME if inside else str(record.board_path),
            "attempt": record.kept.attempt,
            "resume_from": resume,
            "resume_step": None if restored is None else restored.step,
            "cause": record.cause,
            "run_id": record.kept.run_id,
            "state": "ready" if record.taken or record.managed else "restoring",
            "checkpoint_dir": "" if inside else record.kept.body.checkpoint_dir,
            "mark": str(record.mark or ""),
        }

    async def seal(self, name: str, body: SealBody) -> Document:
        """Note a save that begins or a checkpoint that is sealed."""
        record = self._record(name)
        record.step = max(record.step or 0, body.step)
        if body.phase == "sealed":
            seal = Seal(body.path, body.step, body.mark)
            self._house.post(ev.Sealed(name, seal, body.ask, body.seconds))
        return {}

    async def progress(self, name: str, body: ProgressBody) -> Document:
        """Note the step that training has reached (first step after a resume)."""
        record = self._record(name)
        record.step = max(record.step or 0, body.step)
        if record.awaiting_first_step:
            record.awaiting_first_step = False
            seconds = self._house.receipts.mark(name, "resumed", f"first step {body.step:,}")
            self._house.receipts.close(name)
            if seconds is not None:
                line = f"first step after the interruption: {body.step:,}, {seconds:.1f} s after it"
                self._house.tell(record, "resumed", line, step=body.step)
        return {}

    async def finish(self, name: str, body: FinishBody) -> Document:
        """The job says that it is really done."""
        record = self._record(name)
        record.kept.finished = True
        if body.step is not None:
            record.step = body.step
        self._house.keep(record)
        return {}

    # -- wishes ------------------------------------------------------------------------------

    async def ask(self, name: str) -> Document:
        """Ask for a checkpoint now."""
        self._record(name)
        self._house.post(ev.SaveRequested(name))
        return {}

    async def stop(self, name: str) -> Document:
        """Ask for a checkpoint, then end the job here and everywhere."""
        self._wishes.stop_here(self._record(name))
        return {}

    async def control(self, peer: Peer, body: ControlBody) -> Document:
        """Stop, start or remove a job everywhere, also one that is not known here."""
        return await self._wishes.control(peer, body)

    async def log(self, name: str, body: LogBody) -> Document:
        """The end of an attempt's output, from the store."""
        return await self._wishes.log(self._record(name), body.attempt)

    async def close(self) -> None:
        """Let go of what people wished."""
        await self._wishes.close()

    async def interrupt(self, body: InterruptBody) -> Document:
        """A notice by hand."""
        key = f"operator-{secrets.token_hex(4)}"
        deadline = self._house.clock() + body.seconds
        notice = Notice("operator", MachineAction(body.action), deadline, key)
        self._house.post(ev.NoticeSeen(notice))
        # A rehearsal ends at its deadline: nobody takes this machine away.
        gone = ev.NoticeGone(notice.source)
        asyncio.get_running_loop().call_later(body.seconds, self._house.post, gone)
        return {"key": key, "seconds": body.seconds, "action": body.action}

    # -- streams -----------------------------------------------------------------------------

    async def events(self, name: str) -> AsyncIterator[Document]:
        """What happens to the job, from now on; its present state first."""
        record = self._record(name)
        yield {"event": "job", **self._document(record)}
        async for document in record.events.listen():
            yield document

    async def replicator_commands(self, name: str) -> AsyncIterator[Document]:
        """Commands for the job's replicator; ends when a newer replicator connects."""
        async for command in self._record(name).link.commands():
            yield command

    async def replicator_event(self, name: str, body: Document) -> Document:
        """An answer or a fact from the job's replicator."""
        answers.receive(self._house, self._record(name), body)
        return {}


def _check_keeper(record: Record, key: str, body: ProcessBody) -> None:
    """One launcher at a time, and only of a job that is started by one."""
    if not body.keeper:
        return
    if record.kept.body.resume != EXTERNAL:
        raise JobError(
            f"job {record.name} is started by spotwatchd, or by hand",
            where="keeper",
            remedy="register it with resume external first (spotwatch run --external)",
        )
    if record.outside.busy:
        raise Problem(
            409,
            "still-ending",
            f"what the last attempt of job {record.name} left here is being ended",
            where="keeper",
            remedy="try again in a second",
        )
    if record.keeper not in (None, key):
        pid = str(record.keeper).partition("-")[0]
        raise JobError(
            f"job {record.name} runs here already: pid {pid} started it",
            where="name",
            remedy=f"end that one, or see: spotwatch attach {record.name}",
        )


def _to_go_on(record: Record) -> str:
    """What a person does with a job that no daemon starts, while nobody runs it."""
    body = record.kept.body
    idle = not (record.managed or record.processes or record.kept.outcome == "finished")
    return to_go_on(body, record.kept.store) if idle else ""
