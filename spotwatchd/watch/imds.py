"""The watcher of EC2 metadata.

It never gives up: every failure is counted and the next poll is the retry.

Each poll asks spot/instance-action, alone. The other paths (rebalance, scheduled events, Auto
Scaling target state) are asked at every third or every fifteenth poll, after it and in a task of
their own that the next poll does not wait for. So one keep-alive connection carries one or two
small requests per poll, and a path that hangs costs the notice nothing.
Nothing is logged per poll: ``health()`` tells how it goes, ``alarm`` is called when a person
should know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from spotwatchd.core.events import Event
from spotwatchd.watch import parse
from spotwatchd.watch.fetch import Answer, Metadata, Trouble
from spotwatchd.watch.health import SOURCE, Failure, InstanceFacts, Record, WatchHealth
from spotwatchd.watch.settings import ImdsSettings
from spotwatchd.watch.sources import (
    AutoscalingSource,
    EventsSource,
    RebalanceSource,
    SpotSource,
)

__all__ = ["ImdsSettings", "ImdsWatcher", "WatchHealth"]

Side = RebalanceSource | EventsSource | AutoscalingSource

_IDENTITY = {
    "instance_id": "meta-data/instance-id",
    "instance_type": "meta-data/instance-type",
    "availability_zone": "meta-data/placement/availability-zone",
    "life_cycle": "meta-data/instance-life-cycle",
}


class ImdsWatcher:
    """Polls EC2 metadata and delivers NoticeSeen, NoticeGone and HintSeen.

    Args:
        settings: what to ask, and how often.
        clock: CLOCK_BOOTTIME in seconds.
        deliver: takes each event; called in the loop, must not block.
        alarm: takes a line for people: staleness, its end, an unknown action. Rare.
        wall: the local wall clock in Unix seconds; used only for answers without a Date.
    """

    def __init__(
        self,
        settings: ImdsSettings,
        *,
        clock: Callable[[], float],
        deliver: Callable[[Event], None],
        alarm: Callable[[str], None] = lambda _: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._deliver = deliver
        self._alarm = alarm
        self._record = Record(clock(), settings.stale_seconds)
        self._spot = SpotSource(alarm)
        self._events = EventsSource(settings.event_lead)
        self._sides = self._chosen_sides()
        self._asked: dict[Side, int] = {}
        self._facts: dict[str, str] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        metadata = Metadata(self._settings, self._clock, self._wall)
        loop = asyncio.get_running_loop()
        self._record.begun = self._clock()
        try:
            async with asyncio.TaskGroup() as tasks:
                side: asyncio.Task[None] | None = None
                due = loop.time()
                while True:
                    reachable = await self._poll(metadata)
                    idle = side is None or side.done()
                    if reachable and idle and self._something_aside(metadata):
                        side = tasks.create_task(self._look_aside(metadata), name="imds-side")
                    # Whole periods, so that a slow answer does not shift the polls after it.
                    due = max(due + self._settings.poll_seconds, loop.time())
                    await asyncio.sleep(due - loop.time())
        finally:
            await metadata.close()

    def health(self) -> WatchHealth:
        """How the watching goes, now."""
        now, record = self._clock(), self._record
        return WatchHealth(
            source=SOURCE,
            endpoint=self._settings.url,
            state=record.state(now),
            stale=record.stale(now),
            last_success_age=_age(record.last_success, now),
            polls=record.polls,
            failures={kind.value: count for kind, count in record.failures.items()},
            last_error=record.last_error,
            last_error_age=_age(record.last_error_at, now),
            imds_v1=self._settings.imds_v1,
            instance=InstanceFacts(**self._facts),
            upcoming=self._events.upcoming,
        )

    def _chosen_sides(self) -> list[Side]:
        settings, sides = self._settings, list[Side]()
        if settings.rebalance:
            sides.append(RebalanceSource())
        if settings.scheduled_events:
            sides.append(self._events)
        if settings.autoscaling:
            sides.append(AutoscalingSource(settings.autoscaling_seconds))
        return sides

    async def _poll(self, metadata: Metadata) -> bool:
        """Ask for the notice. Returns True when it is worth asking for other paths now."""
        trouble = await self._ask(metadata, self._spot, renew=True)
        if trouble is None:
            line = self._record.poll_succeeded(self._clock())
            if line:
                # Something was wrong for a while; the machine may have slept or moved.
                self._facts.clear()
        else:
            line = self._record.poll_failed(trouble.kind, self._clock())
        if line:
            self._alarm(line)
        # One path may be broken while the others tell of the end of the machine.
        unreachable = trouble is not None and trouble.kind is Failure.UNREACHABLE
        return metadata.ready() and not unreachable

    async def _look_aside(self, metadata: Metadata) -> None:
        """Everything that is not the notice and is due."""
        for source in self._due():
            self._asked[source] = self._record.polls
            await self._ask(metadata, source, renew=False)
        if not self._identified():
            await self._identify(metadata)
        if metadata.renewal_due():
            await self._keep_token(metadata)

    def _something_aside(self, metadata: Metadata) -> bool:
        return bool(self._due()) or not self._identified() or metadata.renewal_due()

    def _due(self) -> list[Side]:
        polls, asked = self._record.polls, self._asked
        return [side for side in self._sides if polls - asked.get(side, -side.every) >= side.every]

    def _identified(self) -> bool:
        return len(self._facts) == len(_IDENTITY)

    async def _ask(
        self, metadata: Metadata, source: SpotSource | Side, *, renew: bool
    ) -> Trouble | None:
        """One path: its events are delivered, its trouble is counted and returned."""
        try:
            answer = await self._fetch(metadata, source.path, renew=renew)
            events = source.read(answer)
        except Trouble as trouble:
            return self._count(source, trouble)
        except parse.Garbage as error:
            return self._count(source, Trouble(Failure.GARBAGE, f"{source.path}: {error}"))
        for event in events:
            self._deliver(event)
        self._note_bad_entries(source)
        return None

    async def _fetch(self, metadata: Metadata, path: str, *, renew: bool) -> Answer:
        try:
            async with asyncio.timeout(self._settings.poll_timeout):
                return await metadata.get(path, renew=renew)
        except TimeoutError as error:
            limit = self._settings.poll_timeout
            raise Trouble(Failure.TIMEOUT, f"{path}: no answer within {limit:g} s") from error

    def _count(self, source: SpotSource | Side, trouble: Trouble) -> Trouble:
        source.shown.unclear()
        self._record.failed(trouble.kind, str(trouble), self._clock())
        return trouble

    def _note_bad_entries(self, source: SpotSource | Side) -> None:
        if isinstance(source, EventsSource) and source.wrong:
            self._record.failed(Failure.GARBAGE, f"{source.path}: {source.wrong}", self._clock())

    async def _identify(self, metadata: Metadata) -> None:
        """Learn what is not known yet of the instance; a 404 is an answer."""
        for name, path in _IDENTITY.items():
            if name in self._facts:
                continue
            try:
                answer = await self._fetch(metadata, path, renew=False)
                self._facts[name] = "" if answer.body is None else parse.word(answer.body)
            except Trouble as trouble:
                self._record.failed(trouble.kind, str(trouble), self._clock())
                return  # the next round goes on
            except parse.Garbage as error:
                self._record.failed(Failure.GARBAGE, f"{path}: {error}", self._clock())
                return

    async def _keep_token(self, metadata: Metadata) -> None:
        try:
            await metadata.renew()
        except Trouble as trouble:
            self._record.failed(trouble.kind, str(trouble), self._clock())


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else now - at
