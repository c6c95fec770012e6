"""What hands, desk and daemon share: the records of the jobs and the ways to the rooms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spotwatchd.config import Config
from spotwatchd.core.events import Event, JobExited, ProcessJoined
from spotwatchd.core.machine import Core
from spotwatchd.engine.broadcast import wall_text
from spotwatchd.engine.receipts import Receipts
from spotwatchd.engine.records import Record
from spotwatchd.errors import SpotwatchError
from spotwatchd.jobs.launcher import ChildLauncher
from spotwatchd.journal import Journal
from spotwatchd.logs import Logger

# The same complaint about the same job is logged again after this long, not at every retry.
_REPEAT_SECONDS = 60.0
_REMEMBERED = 50


@dataclass
class House:
    """One daemon.

    Attributes:
        config: settings.
        machine: name of this machine in leases.
        boot_id: of the kernel.
        core: decides; only the engine calls ``handle``, everybody may look at its views.
        journal, launcher, receipts, log: rooms.
        post: puts an event into the engine's mailbox.
        clock: CLOCK_BOOTTIME seconds.
        wall: Unix seconds, for what people read.
        records: the jobs of this machine by name.
        watch: status lines of the sources of notices.
        again: runs a job that is over here once more.
        store_error: what the last look into the daemon's own store said, None when it was fine.
        refused: jobs of the store that may not run here, and why.
        elsewhere: jobs of the store that no daemon starts: how to go on with them.
        open_door, close_door: listen on a job's own socket, in a directory that is open.
    """

    config: Config
    machine: str
    boot_id: str
    core: Core
    journal: Journal
    launcher: ChildLauncher
    receipts: Receipts
    log: Logger
    post: Callable[[Event], None]
    clock: Callable[[], float]
    wall: Callable[[], float]
    records: dict[str, Record] = field(default_factory=dict)
    watch: Callable[[], list[dict[str, Any]]] = list
    store_error: str | None = None
    again: Callable[[Record], None] = lambda _record: None
    refused: dict[str, SpotwatchError] = field(default_factory=dict)
    elsewhere: dict[str, dict[str, Any]] = field(default_factory=dict)
    open_door: Callable[[str, int], None] = lambda _name, _directory: None
    close_door: Callable[[str], None] = lambda _name: None

    def tell(self, record: Record, word: str, line: str | None = None, **facts: Any) -> None:
        """Tell a job's listeners, and the log when there is a sentence for it."""
        document: dict[str, Any] = {
            "event": word,
            "job": record.name,
            "at": wall_text(self.wall()),
            **facts,
        }
        if line is not None:
            document["line"] = line
            self.log.info(line, job=record.name)
        record.events.send(document)

    def is_news(self, record: Record, complaint: str) -> bool:
        """Whether this complaint about the job was not made just now."""
        now, known = self.clock(), record.complaints
        last = known.get(complaint)
        if last is not None and now - last < _REPEAT_SECONDS:
            return False
        known[complaint] = now
        while len(known) > _REMEMBERED:
            known.pop(next(iter(known)))
        return True

    def exited(self, record: Record, attempt: int, status: int | None) -> None:
        """Its processes that we know of are gone: the core hears it once all of them are."""
        record.kept.exit_status = status
        record.taken = record.taken and record.managed  # the next one waits for its own turn

        def gone() -> None:
            record.kept.running = False  # until then a daemon that starts anew sees to it
            self.keep(record)
            self.post(JobExited(record.name, attempt, status, record.kept.finished))
            for key in record.processes if not record.managed else ():
                self.post(ProcessJoined(record.name, key))  # it came meanwhile

        record.outside.then(gone, lambda line: self.tell(record, "container", line), record.mark)

    def keep(self, record: Record) -> None:
        """Journal what must survive of a job; does not wait."""
        self.journal.post("job", record.name, record.kept.to_document())
