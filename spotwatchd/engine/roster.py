"""Jobs come and go: registered on the socket, found in the journal, found in the store."""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import Any

from spotwatchd.control.bodies import JobBody
from spotwatchd.core import events as ev
from spotwatchd.core.words import JobPolicy
from spotwatchd.engine.broadcast import wall_text
from spotwatchd.engine.helpers import Replicator
from spotwatchd.engine.house import House
from spotwatchd.engine.link import Link
from spotwatchd.engine.records import Kept, Record
from spotwatchd.engine.trust import admit
from spotwatchd.errors import JobError, SpotwatchError
from spotwatchd.jobs.launcher import recorded_status
from spotwatchd.jobs.spawn import account
from spotwatchd.wire.board import BoardWriter


def _needs(body: JobBody) -> dict[str, Any]:
    """What a machine must have besides the checkpoint, as the spec says it."""
    names = ("env_file", "env_command", "data", "prepare", "python", "code")
    return {name: getattr(body, name) for name in names}


class Roster:
    """Adds jobs to the house."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._replicators: dict[str, Replicator] = {}

    def register(self, uid: int, gid: int, body: JobBody) -> tuple[Record, bool]:
        """A job from the socket. Returns its record, and True when it is new here.

        Raises JobError when the name is taken by another job, or the limit is reached.
        """
        known = self._house.records.get(body.name)
        if known is not None:
            return self._again(known, uid, body), False
        self._check_room(body.name)
        store = body.store or self._house.config.store
        if store is None:
            raise JobError(
                f"job {body.name} has no store: neither the job nor the daemon names one",
                where="store",
                remedy="pass --store URL, or set store in the daemon's configuration",
            )
        kept = Kept(
            uid,
            gid,
            body,
            body.run_id or secrets.token_hex(8),
            store,
            wall_text(self._house.wall()),
        )
        record = self._enter(kept)
        self._house.keep(record)
        self._house.post(ev.JobAdded(record.name, self.policy(body)))
        return record, True

    def _again(self, record: Record, uid: int, body: JobBody) -> Record:
        kept = record.kept
        if kept.uid != uid:
            raise JobError(
                f"the name {body.name!r} is taken",
                where="name",
                remedy="choose another name: a job's name is unique on its machine and store",
            )
        if kept.ended:
            raise JobError(
                f"job {body.name} is over here: {kept.outcome}",
                where="name",
                remedy="choose another name, or remove its objects from the store first",
            )
        same = (kept.body.argv, kept.body.cwd, kept.body.checkpoint_dir) == (
            body.argv,
            body.cwd,
            body.checkpoint_dir,
        )
        if not same and body.argv is not None:
            raise JobError(
                f"job {body.name} is registered with another command, directory or "
                "checkpoint directory",
                where="name",
                remedy="choose another name for the changed job",
            )
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

    def policy(self, body: JobBody) -> JobPolicy:
        """What the core must know of a job."""
        interval = body.interval
        if interval is None and body.checkpoint_glob:
            interval = 0.0  # a program without the client cannot be asked to save and go on
        if interval is None and isinstance(self._house.config.checkpoint.interval, (int, float)):
            interval = float(self._house.config.checkpoint.interval)
        return JobPolicy(
            managed=body.argv is not None,
            interval=interval,
            max_crashes=self._house.config.jobs.max_crashes,
        )

    def _enter(self, kept: Kept) -> Record:
        name = kept.body.name
        boards = self._house.config.runtime_dir / "boards"
        boards.mkdir(parents=True, exist_ok=True)
        switch = kept.uid != os.geteuid()
        path = boards / name
        board = BoardWriter(path, owner=(kept.uid, kept.gid) if switch else None)
        record = Record(
            name,
            kept,
            self._house.config.state_dir / "jobs" / name,
            path,
            board,
            Link(lambda: self._house.post(ev.ReplicatorDown(name))),
        )
        kept.asked = max(kept.asked, board.number)
        self._house.records[name] = record
        if not kept.ended:
            self._attend(record)
        return record

    def _attend(self, record: Record) -> None:
        config, body, kept = self._house.config, record.kept.body, record.kept
        who = account(kept.uid, kept.gid)
        document: dict[str, Any] = {
            "name": record.name,
            "uid": kept.uid,
            "gid": who.gid,
            "checkpoint_dir": body.checkpoint_dir,
            "checkpoint_glob": body.checkpoint_glob,
            "store": kept.store,
            "socket": str(config.socket),
            "runtime_dir": str(record.directory),
            "machine": self._house.machine,
            "boot_id": self._house.boot_id,
            "lease_seconds": config.lease.seconds,
            "keep_last": config.checkpoint.keep_last,
            "keep_every": config.checkpoint.keep_every,
            "grace_seconds": config.checkpoint.grace_seconds,
            "spec": {
                "version": 1,
                "name": record.name,
                "run_id": kept.run_id,
                "argv": body.argv,
                "cwd": body.cwd,
                "user": kept.origin or who.name,
                "env": body.env,
                "checkpoint_dir": body.checkpoint_dir,
                "checkpoint_glob": body.checkpoint_glob,
                "signal": body.signal,
                "interval": body.interval,
                "created_at": kept.created_at,
                **_needs(body),
            },
        }
        if body.bundle is not None:
            document["bundle"] = body.bundle
        replicator = Replicator(
            document,
            who,
            record.directory,
            linked=lambda: record.link.connected,
            wanted=lambda: not kept.ended,
        )
        replicator.start()
        self._replicators[record.name] = replicator

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
                self.policy(kept.body),
                running=running or died_unseen,
                attempt=kept.attempt,
                asked=kept.asked,
                told_to_leave=kept.told,
                ended=kept.ended,
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
        record.kept.exit_status, record.kept.running = status, False
        self._house.keep(record)
        self._house.post(ev.JobExited(record.name, attempt, status, record.kept.finished))

    # -- from the store --------------------------------------------------------------------

    def take_in(self, stored: dict[str, Any], store: str) -> None:
        """A job found in the store: registered here if this machine may run it.

        Raises Refused, or JobError when there is no room.
        """
        name, spec = str(stored.get("name")), stored.get("spec")
        if name in self._house.records or (isinstance(spec, dict) and spec.get("argv") is None):
            return
        config = self._house.config
        entry, body = admit(stored, store, config.allowed_users, config.checkpoint_root)
        self._check_room(name)
        run_id, born = str(body.run_id), str(stored["spec"].get("created_at", ""))[:40]
        kept = Kept(
            entry.pw_uid, entry.pw_gid, body, run_id, store, born, origin=stored["spec"]["user"]
        )
        record = self._enter(kept)
        self._house.keep(record)
        self._house.post(ev.JobAdded(name, self.policy(body)))

    async def close(self) -> None:
        """Let go of every job; what runs goes on."""
        for replicator in self._replicators.values():
            await replicator.close()
        for record in self._house.records.values():
            record.events.close()
            record.link.close()
            for process in record.processes.values():
                process.close()
