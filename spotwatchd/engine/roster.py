"""Jobs come and go: registered on the socket, found in the journal, found in the store."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from spotwatchd.control.bodies import JobBody
from spotwatchd.core import events as ev
from spotwatchd.core.identity import another, differences, revision_of
from spotwatchd.core.words import JobPolicy
from spotwatchd.engine.adopting import adopt
from spotwatchd.engine.broadcast import wall_text
from spotwatchd.engine.helpers import Replicator
from spotwatchd.engine.house import House
from spotwatchd.engine.identity import Place, place, spec_of
from spotwatchd.engine.job_document import replicator_document
from spotwatchd.engine.link import Link
from spotwatchd.engine.outside import Outside
from spotwatchd.engine.policies import policy_of
from spotwatchd.engine.records import Kept, Record
from spotwatchd.engine.trust import admit, not_theirs
from spotwatchd.errors import JobError, SpotwatchError
from spotwatchd.jobs.inside import Inside
from spotwatchd.jobs.launcher import recorded_status
from spotwatchd.jobs.spawn import account
from spotwatchd.wire.board import BoardWriter
from spotwatchd.wire.paths import BOARD_NAME


class Roster:
    """Adds jobs to the house."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._replicators: dict[str, Replicator] = {}

    async def register(self, uid: int, gid: int, body: JobBody) -> tuple[Record, bool]:
        """A job from the socket. Returns its record, and True when it is to be run (again).

        Raises JobError when the name is taken by another job, or the limit is reached.
        """
        known = self._house.records.get(body.name)
        if known is not None and not known.kept.ended:
            return self._again(known, uid, body), False
        store = self._store_of(body)
        who = account(uid, gid)
        where = await place(body, store, who, self._house.config.allowed_users)
        now = self._house.records.get(body.name)
        if now is not known:  # somebody was faster while the store was asked
            return await self.register(uid, gid, body)
        if known is not None:
            return self._run_again(known, uid, body, where), True
        return self._new(uid, gid, body, store, where), True

    def _store_of(self, body: JobBody) -> str:
        store = body.store or self._house.config.store
        if store is None:
            raise JobError(
                f"job {body.name} has no store: neither the job nor the daemon names one",
                where="store",
                remedy="pass --store URL, or set store in the daemon's configuration",
            )
        return store

    def _new(self, uid: int, gid: int, body: JobBody, store: str, where: Place) -> Record:
        self._check_room(body.name)
        kept = Kept(
            uid,
            gid,
            body,
            where.run_id,
            store,
            wall_text(self._house.wall()),
            revision=where.revision,
            replaces=where.replaces,
            origin=where.origin,
        )
        record = self._enter(kept)
        self._house.keep(record)
        self._house.post(ev.JobAdded(record.name, self._policy(kept)))
        return record

    def _again(self, record: Record, uid: int, body: JobBody) -> Record:
        kept = record.kept
        if kept.uid != uid:
            raise _taken(body.name)
        user = account(kept.uid, kept.gid).name
        changes = differences(spec_of(kept.body, user), spec_of(body, user)) if body.argv else []
        if changes and body.change is None:
            raise another(body.name, changes, "name")
        if body.change is not None:
            raise JobError(
                f"job {body.name} runs here and cannot be changed now",
                where="name",
                remedy=f"spotwatch stop {body.name}, then the same command again",
            )
        if body.argv and (kept.body.cwd, kept.body.checkpoint_dir) != (
            body.cwd,
            body.checkpoint_dir,
        ):
            raise JobError(
                f"job {body.name} is registered with another working or checkpoint directory",
                where="name",
                remedy=f"use {kept.body.cwd} and {kept.body.checkpoint_dir}, or another name",
            )
        return record

    def _run_again(self, record: Record, uid: int, body: JobBody, where: Place) -> Record:
        """A job that is over here, but not in the store, or that is changed on purpose."""
        kept = record.kept
        if kept.uid != uid:
            raise _taken(body.name)
        if where.halted == "finished" and not body.managed:
            return record  # its scheduler asks once more: it is told that all is done
        if where.halted or (where.revision == 0 and kept.ended):
            raise _over(body.name, where.halted or str(kept.outcome))
        kept.body, kept.run_id = body, where.run_id
        kept.revision, kept.replaces = where.revision, where.replaces
        kept.origin = where.origin  # whatever it was before, it is registered here now
        self._begin_again(record)
        return record

    def _check_room(self, name: str) -> None:
        limit = self._house.config.jobs.max_jobs
        active = sum(not record.kept.ended for record in self._house.records.values())
        if active >= limit:
            raise JobError(
                f"job {name} is refused: {active} jobs are registered, the limit is {limit}",
                where="jobs.max_jobs",
                remedy="wait until one has ended, or raise the limit in the configuration",
            )

    def _policy(self, kept: Kept) -> JobPolicy:
        return policy_of(kept, self._house.config)

    def _enter(self, kept: Kept) -> Record:
        name = kept.body.name
        switch = kept.uid != os.geteuid()
        inside = Inside(
            self._house.config.runtime_dir, name, (kept.uid, kept.gid) if switch else None
        )
        board = BoardWriter(inside.through / BOARD_NAME, mode=0o644)
        record = Record(
            name,
            kept,
            self._house.config.state_dir / "jobs" / name,
            inside,
            board,
            Link(lambda: self._house.post(ev.ReplicatorDown(name))),
            Outside(kept.cgroups, self._house.config.jobs.stop_grace),
        )
        kept.asked = max(kept.asked, board.number)
        self._house.records[name] = record
        if not kept.ended:
            self._attend(record)
        return record

    def _attend(self, record: Record) -> None:
        kept = record.kept
        self._house.open_door(record.name, record.inside.fd)
        who = account(kept.uid, kept.gid)
        document = replicator_document(self._house, record, who)
        replicator = Replicator(
            document,
            who,
            record.directory,
            linked=lambda: record.link.connected,
            wanted=lambda: not kept.ended,
        )
        replicator.start()
        self._replicators[record.name] = replicator

    # -- a job that was over here -----------------------------------------------------------

    def revive(self, record: Record, spec: Any) -> None:
        """Run a job again that is over here, as the store describes it (None: as it is here).

        Raises JobError, also Refused (trust.py): then nothing of the job is changed.
        """
        self._check_room(record.name)
        if spec is not None and record.managed:
            adopt(record.kept, spec, self._house.config)
        self._begin_again(record)

    def again(self, record: Record) -> None:
        """Run a job again that a person started while it was still being stopped here."""
        try:
            self.revive(record, None)
        except JobError as error:
            record.kept.reason = error.what
            self._house.log.warning(error.what, job=record.name, fix=error.remedy)

    def _begin_again(self, record: Record) -> None:
        kept = record.kept
        self._check_room(record.name)
        kept.ended = kept.told = kept.finished = False
        kept.outcome = kept.exit_status = kept.reason = None
        record.restart = record.told_stop = False
        old = self._replicators.pop(record.name, None)
        if old is not None:
            old.abandon()
        self._attend(record)
        self._house.keep(record)
        self._house.post(ev.JobAdded(record.name, self._policy(kept), attempt=kept.attempt))
        if not record.managed:  # whoever starts it comes later, or not at all
            self._house.post(ev.JobExited(record.name, kept.attempt, None, finished=False))

    async def forget(self, record: Record) -> None:
        """A job that was removed: nothing of it stays with the daemon."""
        name = record.name
        self._house.post(ev.JobRemoved(name))
        self._house.records.pop(name, None)
        self._house.journal.post("job", name, None)
        replicator = self._replicators.pop(name, None)
        if replicator is not None:
            await replicator.close()
        record.events.close()
        record.link.close()
        await record.outside.close()
        self._house.close_door(name)
        record.inside.remove()

    # -- after a restart of the daemon ----------------------------------------------------

    async def recall(self) -> None:
        """Jobs and open interruptions from the journal: what ran goes on."""
        for name, document in (await self._house.journal.jobs()).items():
            try:
                await self._recall_one(Kept.from_document(name, document))
            except SpotwatchError as error:
                self._house.log.error(error.what, job=name, fix=error.remedy)  # noqa: TRY400 - a sentence, no trace

    async def _recall_one(self, kept: Kept) -> None:
        record = self._enter(kept)
        running = await self._adopt(record) if record.managed and kept.attempt else False
        died_unseen = record.managed and not running and kept.running
        self._house.post(
            ev.JobAdded(
                record.name,
                self._policy(kept),
                running=running or died_unseen,
                attempt=kept.attempt,
                asked=kept.asked,
                told_to_leave=kept.told,
                ended=kept.ended,
                gpus=None if kept.gpus is None else tuple(kept.gpus),
            )
        )
        if died_unseen:
            status = await asyncio.to_thread(recorded_status, record.attempt_directory)
            self._gone(record, kept.attempt, status)

    async def _adopt(self, record: Record) -> bool:
        if record.kept.ended:
            return False
        attempt = record.kept.attempt
        return await self._house.launcher.adopt(
            record.name,
            record.attempt_directory,
            lambda status: self._gone(record, attempt, status),
        )

    def _gone(self, record: Record, attempt: int, status: int | None) -> None:
        self._house.exited(record, attempt, status)

    # -- from the store --------------------------------------------------------------------

    def take_in(self, stored: dict[str, Any], store: str, *, asker: int = 0) -> str:
        """A job found in the store: registered here if this machine may run it.

        Args:
            stored: ``name`` and ``spec``, anything at all.
            store: its URL.
            asker: uid of who says so; 0: this machine does.

        Returns why there is nothing to run, for people; "" when it runs.
        Raises Refused, or JobError when there is no room.
        """
        name, spec = str(stored.get("name")), stored.get("spec")
        if isinstance(spec, dict) and (spec.get("argv") is None or spec.get("resume") is not None):
            return "whoever started it starts it again"
        known = self._house.records.get(name)
        if known is not None:
            self._take_back(known, spec, store, asker)
            return ""
        config = self._house.config
        entry, body = admit(stored, store, config.allowed_users, config.checkpoint_root)
        if asker not in (0, entry.pw_uid):
            raise not_theirs(name, store, account(asker).name)
        self._check_room(name)
        fields: dict[str, Any] = stored["spec"]  # admitted: it is one
        kept = Kept(
            entry.pw_uid,
            entry.pw_gid,
            body,
            str(body.run_id),
            store,
            str(fields.get("created_at", ""))[:40],
            revision=revision_of(fields),
            origin=str(fields["user"]),
        )
        record = self._enter(kept)
        self._house.keep(record)
        self._house.post(ev.JobAdded(name, self._policy(kept)))
        return ""

    def _take_back(self, record: Record, spec: Any, store: str, asker: int) -> None:
        """A job that was over here, and was started again by somebody elsewhere."""
        kept = record.kept
        if not kept.ended or kept.store != store:
            return
        if asker not in (0, kept.uid):
            raise not_theirs(record.name, store, account(asker).name)
        try:
            self.revive(record, spec)
        except SpotwatchError as error:
            kept.reason = error.what
            raise

    async def close(self) -> None:
        """Let go of every job; what runs goes on."""
        for replicator in self._replicators.values():
            await replicator.close()
        for record in self._house.records.values():
            record.events.close()
            record.link.close()
            record.inside.close()
            await record.outside.close()
            for process in record.processes.values():
                process.close()


def _taken(name: str) -> JobError:
    return JobError(
        f"the name {name!r} is taken",
        where="name",
        remedy="choose another name: a job's name is unique on its machine and store",
    )


def _over(name: str, how: str) -> JobError:
    ways = "spotwatch run --continue ... goes on from its last checkpoint, --new begins anew"
    return JobError(
        f"job {name} is over: {how}",
        where="name",
        remedy=f"spotwatch start {name} runs it again" if how != "finished" else ways,
    )
