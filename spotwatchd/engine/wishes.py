"""stop, start, rm: said on this machine, meant for all of them."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

from spotwatchd.control.bodies import ControlBody
from spotwatchd.control.desk import Peer
from spotwatchd.control.routes import no_job
from spotwatchd.core import events as ev
from spotwatchd.engine.house import House
from spotwatchd.engine.records import Record
from spotwatchd.engine.roster import Roster
from spotwatchd.engine.store_calls import LONG, store_call
from spotwatchd.engine.trust import Refused
from spotwatchd.errors import JobError, SpotwatchError, StoreError
from spotwatchd.jobs.spawn import Account, account

Document = dict[str, Any]


class Wishes:
    """Carries wishes to the store, and obeys them here at once."""

    def __init__(self, house: House, roster: Roster) -> None:
        self._house = house
        self._roster = roster
        self._tasks: set[asyncio.Task[None]] = set()
        self._removals: dict[str, asyncio.Task[Document]] = {}

    async def control(self, peer: Peer, body: ControlBody) -> Document:
        """What ``spotwatch stop``, ``start`` and ``rm`` ask for.

        Raises Problem (somebody else's job), JobError, StoreError.
        """
        record = self._house.records.get(body.name)
        if record is not None and peer.uid not in (0, record.kept.uid):
            raise no_job(body.name, peer.uid)
        store = record.kept.store if record else body.store or self._house.config.store
        if store is None:
            raise no_job(body.name, peer.uid)
        who = account(peer.uid, peer.gid)
        if record is not None:
            who = account(record.kept.uid, record.kept.gid)
        doing = {"stop": self._stop, "start": self._start, "remove": self._remove}[body.do]
        return await doing(record, who, store, body)

    def stop_here(self, record: Record, *, save: bool = True) -> None:
        """Stop it here at once, and say so in the store as soon as that answers."""
        self._house.post(ev.StopRequested(record.name, save))
        if record.told_stop:
            return
        record.told_stop = True
        task = asyncio.get_running_loop().create_task(self._wish_stop(record), name="wish")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wish_stop(self, record: Record) -> None:
        kept = record.kept
        try:
            await store_call(account(kept.uid, kept.gid), "stop", kept.store, record.name)
        except SpotwatchError as error:
            # The release of the stopped attempt says it again, as its owner.
            self._house.log.info("the wish to stop was not written", error=error.what)

    async def _stop(
        self, record: Record | None, who: Account, store: str, body: ControlBody
    ) -> Document:
        here = record is not None and not record.kept.ended
        options = _user(who, record, () if body.save else ("--no-save",))
        note = ""
        try:
            await store_call(who, "stop", store, body.name, *options)
        except (JobError, StoreError) as error:
            if not here:
                raise
            note = f"other machines hear of it when it has stopped here: {error.what}"
        if record is not None and here:
            record.restart = False
            self._house.post(ev.StopRequested(record.name, body.save))
        return {"name": body.name, "state": "stopping" if here else "stopped", "note": note}

    async def _start(
        self, record: Record | None, who: Account, store: str, body: ControlBody
    ) -> Document:
        found = await store_call(who, "start", store, body.name, *_user(who, record))
        if record is None:
            why = self._take_in(who, body.name, found["spec"], store)
            state = "elsewhere" if why else "queued"
            return {"name": body.name, "state": state, "note": why}
        view = self._house.core.view(body.name)
        if record.kept.ended:
            self._roster.revive(record, found["spec"])
        elif view is not None and view.stopping:
            record.restart = True
        return {"name": body.name, "state": "queued", "note": ""}

    def _take_in(self, who: Account, name: str, spec: Any, store: str) -> str:
        """Why it is not run here, "" when it is. Raises JobError when there is no room."""
        try:
            # What was read is the asker's word: it was read with their rights.
            return self._roster.take_in({"name": name, "spec": spec}, store, asker=who.uid)
        except Refused as error:
            return f"{error.what}; {error.remedy}"

    async def _remove(
        self, record: Record | None, who: Account, store: str, body: ControlBody
    ) -> Document:
        task = self._removals.get(body.name)
        if task is None:
            await self._mark(record, who, store, body.name)
            work = self._work(record, who, store, body.name)
            task = asyncio.get_running_loop().create_task(work, name=f"rm-{body.name}")
            self._removals[body.name] = task
        done, _ = await asyncio.wait({task}, timeout=1.0)
        if not done:
            return {"name": body.name, "state": "removing", "note": ""}
        del self._removals[body.name]
        return task.result()

    async def _mark(self, record: Record | None, who: Account, store: str, name: str) -> None:
        try:
            await store_call(who, "mark", store, name, *_user(who, record))
        except JobError:
            if record is None:
                raise
        if record is not None and not record.kept.ended:
            self._house.post(ev.StopRequested(name, save=False))

    async def _work(self, record: Record | None, who: Account, store: str, name: str) -> Document:
        count = 0
        if record is not None:
            await self._over_here(record)
        try:
            count = (await store_call(who, "remove", store, name, limit=LONG))["objects"]
        except JobError:
            if record is None:
                raise  # else: it never got as far as the store
        if record is not None:
            await self._roster.forget(record)
            await asyncio.to_thread(shutil.rmtree, record.directory, ignore_errors=True)
        return {"name": name, "state": "removed", "note": "", "objects": count}

    @staticmethod
    async def _over_here(record: Record) -> None:
        """Until its processes are gone and its lease is given back."""
        # The records are plain state; who waits here is a person, and there is one of him.
        while not record.kept.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def log(self, record: Record, attempt: int | None) -> Document:
        """The end of an attempt's output from the store."""
        kept = record.kept
        options = () if attempt is None else ("--attempt", str(attempt))
        who = account(kept.uid, kept.gid)
        return await store_call(who, "log", kept.store, record.name, *options)

    async def close(self) -> None:
        """Let go of what is under way; said again, it goes on."""
        for task in (*self._tasks, *self._removals.values()):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._removals.values(), return_exceptions=True)


def _user(who: Account, record: Record | None, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    theirs = record.kept.origin if record is not None else ""  # of a user who has another name here
    return more if who.uid == 0 else ("--user", theirs or who.name, *more)
