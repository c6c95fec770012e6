"""The journal as the event loop sees it.

One thread owns the database and works through a queue, in order. The event loop only
puts work into it, so a disk that takes seconds for an fsync delays nobody's ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from spotwatchd.errors import SpotwatchError
from spotwatchd.journal.database import Database, Doc, Work, read, save

Report = Callable[[SpotwatchError], None]


@dataclass(frozen=True)
class _Task:
    """One thing for the thread to do; ``future`` is None when nobody waits."""

    work: Work
    future: asyncio.Future[Any] | None


def _ignore(_error: SpotwatchError) -> None:
    return None


def _nothing(_connection: Any) -> None:
    return None


class Journal:
    """The daemon's notes. Methods may be called from the event loop only.

    What a method was awaited for is on disk. Every one raises SpotwatchError when the
    disk refuses, and the next call tries again.
    """

    def __init__(self, path: Path, report: Report = _ignore) -> None:
        """Name the database; nothing is touched before ``open``.

        Args:
            path: the database file; its directory is made (0700) when missing.
            report: told, on the event loop, of a damaged file and of every ``post`` that failed.
        """
        self._path = path
        self._report = report
        self._database = Database(path, self._alarm)
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        """Open or create the database.

        Raises:
            SpotwatchError: a newer version wrote it, another daemon has it, or the disk refuses.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._main, name="journal", daemon=True)
        self._thread.start()
        try:
            await self.flush()
        except BaseException:
            await self.close()
            raise

    async def save_job(self, name: str, doc: Doc) -> None:
        """Remember a job (again)."""
        await self._do(save("job", name, doc))

    async def drop_job(self, name: str) -> None:
        """Forget a job."""
        await self._do(save("job", name, None))

    async def jobs(self) -> dict[str, Doc]:
        """Every job by name, in the order in which they were first saved."""
        return dict(await self._do(read("job")))

    async def save_drain(self, key: str, doc: Doc) -> None:
        """Remember a drain. A true ``doc["closed"]`` ends it."""
        await self._do(save("drain", key, doc))

    async def open_drains(self) -> dict[str, Doc]:
        """The drains that are not closed, by id, oldest first."""
        return {key: doc for key, doc in await self._do(read("drain")) if not doc.get("closed")}

    async def save_receipt(self, key: str, doc: Doc) -> None:
        """Remember a receipt (again: it grows until the job is resumed)."""
        await self._do(save("receipt", key, doc))

    async def receipts(self, limit: int = 100) -> list[Doc]:
        """The newest receipts, newest first."""
        rows = await self._do(read("receipt"))
        return [doc for _, doc in reversed(rows)][:limit]

    def post(self, kind: str, key: str, doc: Doc | None) -> None:
        """Save without waiting; a failure goes to ``report``.

        Args:
            kind: "job", "drain" or "receipt".
            key: name or id.
            doc: None forgets it.
        """
        self._queue.put(_Task(save(kind, key, doc), None))

    async def flush(self) -> None:
        """Return when everything posted so far is on disk (or was reported)."""
        await self._do(_nothing)

    async def close(self) -> None:
        """Finish what is queued and close. Closing twice, or what was never open, is fine."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._queue.put(None)
        await asyncio.shield(asyncio.to_thread(thread.join))

    async def _do(self, work: Work) -> Any:
        if self._thread is None:
            raise SpotwatchError("the journal is not open", where=str(self._path))
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Task(work, future))
        return await future

    # What follows runs in the journal's thread.

    def _main(self) -> None:
        while (task := self._queue.get()) is not None:
            self._run(task)
        self._database.close()

    def _run(self, task: _Task) -> None:
        try:
            result = self._database.run(task.work)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, or it is reported
            self._failed(task, error)
            return
        if task.future is not None:
            self._settle(task.future, lambda future: future.set_result(result))

    def _failed(self, task: _Task, error: Exception) -> None:
        if task.future is not None:
            self._settle(task.future, lambda future: future.set_exception(error))
        elif isinstance(error, SpotwatchError):
            self._alarm(error)
        else:
            self._alarm(SpotwatchError(f"the journal failed: {error!r}", where=str(self._path)))

    def _settle(
        self, future: asyncio.Future[Any], how: Callable[[asyncio.Future[Any]], None]
    ) -> None:
        def settle() -> None:
            if not future.cancelled():
                how(future)

        self._on_loop(settle)

    def _alarm(self, error: SpotwatchError) -> None:
        self._on_loop(lambda: self._report(error))

    def _on_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(call)
