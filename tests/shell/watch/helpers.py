"""A running watcher and what came out of it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from spotwatchd.core.events import Event, HintSeen, NoticeGone, NoticeSeen
from spotwatchd.core.words import Notice
from spotwatchd.watch.imds import ImdsSettings, ImdsWatcher

LIMIT = 20.0


def boottime() -> float:
    """The clock of the whole daemon."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def eventually(condition: Callable[[], object]) -> None:
    """Return when ``condition`` holds; fail after LIMIT seconds."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"not within {LIMIT} s: {condition}"
        await asyncio.sleep(0.005)


@dataclass
class Watch:
    """A running watcher and all that came out of it."""

    watcher: ImdsWatcher
    events: list[Event] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    @property
    def notices(self) -> list[Notice]:
        """Different notices in order of first sight."""
        seen = [event.notice for event in self.events if isinstance(event, NoticeSeen)]
        return list(dict.fromkeys(seen))

    @property
    def gone(self) -> list[str]:
        """Sources whose notice is gone."""
        return [event.source for event in self.events if isinstance(event, NoticeGone)]

    @property
    def hints(self) -> list[str]:
        """Keys of the hints."""
        return [event.key for event in self.events if isinstance(event, HintSeen)]

    def failures(self, kind: str) -> int:
        """How many requests failed in this way."""
        return self.watcher.health().failures.get(kind, 0)

    async def polls(self, count: int) -> None:
        """Wait for ``count`` more polls."""
        target = self.watcher.health().polls + count
        await eventually(lambda: self.watcher.health().polls >= target)


@asynccontextmanager
async def watching(
    settings: ImdsSettings,
    clock: Callable[[], float] = boottime,
    wall: Callable[[], float] = time.time,
) -> AsyncIterator[Watch]:
    """Run a watcher; it must still be running at the end."""
    events: list[Event] = []
    alarms: list[str] = []
    watcher = ImdsWatcher(
        settings, clock=clock, deliver=events.append, alarm=alarms.append, wall=wall
    )
    task = asyncio.create_task(watcher.run())
    try:
        yield Watch(watcher, events, alarms)
        assert not task.done(), "the watcher ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def quick(url: str, **changes: object) -> ImdsSettings:
    """Settings with periods that suit a test."""
    values = {"poll_seconds": 0.02, "timeout": 0.25, "poll_timeout": 0.5, **changes}
    return ImdsSettings(endpoint=url, **values)  # type: ignore[arg-type] # names are checked at run time


def free_port() -> int:
    """A port that nobody listens on, for now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
