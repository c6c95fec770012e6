"""A desk that keeps everything in memory: the second implementation of the contract."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any

from spotwatchd.control.bodies import (
    ControlBody,
    FinishBody,
    InterruptBody,
    JobBody,
    LogBody,
    ProcessBody,
    ProgressBody,
    SealBody,
)
from spotwatchd.control.desk import Document, Peer
from spotwatchd.errors import JobError


class Feed:
    """One unbounded queue per reader, as an engine would have."""

    def __init__(self) -> None:
        self.readers: set[asyncio.Queue[Document]] = set()

    def say(self, document: Document) -> None:
        for reader in self.readers:
            reader.put_nowait(document)

    async def follow(self) -> AsyncIterator[Document]:
        mine: asyncio.Queue[Document] = asyncio.Queue()
        self.readers.add(mine)
        try:
            while True:
                yield await mine.get()
        finally:
            self.readers.discard(mine)


@dataclass
class Job:
    """What the desk knows of one job."""

    owner: int
    body: JobBody
    submitter: Peer
    processes: list[tuple[Peer, int]] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)
    asks: int = 0
    events: Feed = field(default_factory=Feed)
    commands: Feed = field(default_factory=Feed)

    def document(self) -> Document:
        return {"name": self.body.name, "uid": self.owner, "asks": self.asks}


class MemoryDesk:
    """Jobs in a dictionary. ``failures`` makes the next call of a method raise."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.failures: defaultdict[str, list[Exception]] = defaultdict(list)
        self.interruptions: list[InterruptBody] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def close(self) -> None:
        for job in self.jobs.values():
            for _, pidfd in job.processes:
                os.close(pidfd)
            job.processes.clear()

    def _fail(self, method: str) -> None:
        if self.failures[method]:
            raise self.failures[method].pop(0)

    def _seen(self, uid: int) -> list[Document]:
        return [job.document() for job in self.jobs.values() if uid in (0, job.owner)]

    def owner(self, name: str) -> int | None:
        self._fail("owner")
        job = self.jobs.get(name)
        return None if job is None else job.owner

    async def status(self, uid: int) -> Document:
        self._fail("status")
        return {"watch": {"state": "ok"}, "jobs": self._seen(uid)}

    async def receipts(self, uid: int) -> list[Document]:
        self._fail("receipts")
        return [{"job": each["name"]} for each in self._seen(uid)]

    async def job(self, name: str) -> Document:
        self._fail("job")
        return self.jobs[name].document()

    async def submit(self, peer: Peer, body: JobBody) -> tuple[Document, bool]:
        self._fail("submit")
        await self.gate.wait()
        known = self.jobs.get(body.name)
        if known is not None and known.body.checkpoint_dir != body.checkpoint_dir:
            raise JobError("the spec differs", where=body.name, remedy="choose --new")
        job = self.jobs.setdefault(body.name, Job(peer.uid, body, peer))
        return job.document(), known is None

    async def join(self, peer: Peer, pidfd: int, name: str, body: ProcessBody) -> Document:
        self.jobs[name].processes.append((peer, pidfd))
        self._fail("join")
        return {"board": f"/run/spotwatchd/boards/{name}", "rank": body.rank}

    def _note(self, method: str, name: str, body: Any) -> Document:
        self._fail(method)
        self.jobs[name].said.append(body)
        document: Document = body if isinstance(body, dict) else asdict(body)
        self.jobs[name].events.say({"event": method, **document})
        return {"noted": True}

    async def seal(self, name: str, body: SealBody) -> Document:
        return self._note("seal", name, body)

    async def progress(self, name: str, body: ProgressBody) -> Document:
        return self._note("progress", name, body)

    async def finish(self, name: str, body: FinishBody) -> Document:
        return self._note("finish", name, body)

    async def ask(self, name: str) -> Document:
        self._fail("ask")
        job = self.jobs[name]
        job.asks += 1
        job.events.say({"event": "ask", "number": job.asks})
        job.commands.say({"do": "weight", "level": "urgent"})
        return {"ask": job.asks}

    async def stop(self, name: str) -> Document:
        return await self.ask(name)

    async def control(self, peer: Peer, body: ControlBody) -> Document:
        self._fail("control")
        return {"name": body.name, "state": body.do, "uid": peer.uid}

    async def log(self, name: str, body: LogBody) -> Document:
        return self._note("log", name, body)

    async def interrupt(self, body: InterruptBody) -> Document:
        self._fail("interrupt")
        self.interruptions.append(body)
        return {"seconds": body.seconds}

    async def events(self, name: str) -> AsyncIterator[Document]:
        self._fail("events")
        async for document in self.jobs[name].events.follow():
            self._fail("event")
            yield document

    async def replicator_commands(self, name: str) -> AsyncIterator[Document]:
        async for document in self.jobs[name].commands.follow():
            yield document

    async def replicator_event(self, name: str, body: Document) -> Document:
        return self._note("replicator_event", name, body)
