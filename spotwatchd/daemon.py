"""The daemon: wiring, the order of start and of shutdown, nothing else."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import time
from pathlib import Path

from spotwatchd import logs
from spotwatchd.config import Config
from spotwatchd.control.server import ControlServer
from spotwatchd.core.events import Event, NoticeSeen
from spotwatchd.core.job import ALIVE
from spotwatchd.core.machine import Core
from spotwatchd.core.settings import CoreSettings
from spotwatchd.core.words import Life, MachineAction, Notice
from spotwatchd.engine.desk import FrontDesk
from spotwatchd.engine.gpus import GpuWatch
from spotwatchd.engine.hands import Hands
from spotwatchd.engine.helpers import unfinished_jobs
from spotwatchd.engine.house import House
from spotwatchd.engine.loop import Engine, boot_clock
from spotwatchd.engine.offers import Offers
from spotwatchd.engine.receipts import Receipts
from spotwatchd.engine.records import Record
from spotwatchd.engine.roster import Roster
from spotwatchd.errors import SpotwatchError
from spotwatchd.jobs.launcher import ChildLauncher
from spotwatchd.journal import Journal
from spotwatchd.service import Service
from spotwatchd.watch.imds import ImdsSettings, ImdsWatcher

# A fresh machine looks into the store until it answers, then now and then for jobs whose
# machine died without a word. Seldom: a look is a process of its own that loads the store's
# library, about half a second of CPU beside somebody's training.
_LOOK_AGAIN = 600.0
_LOOK_SOON = 30.0  # when the store did not answer for one of them
# Where nothing runs, a look disturbs nobody, and elsewhere a job may wait for room.
_LOOK_IDLE = 60.0
# What lacks only a user or room is offered again without asking the store.
_OFFER_AGAIN = 5.0
_LOOK_RETRY = (1.0, 30.0)
_LOOK_LIMIT = 60.0
# A private daemon goes away this long after its last job ended.
_IDLE = 2.0


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _machine_name(config: Config) -> str:
    """A name that no other machine on the store has: leases trust it."""
    if config.machine:
        return config.machine
    # On EC2's Nitro instances the board's asset tag is the instance id; it needs no network
    # and, unlike /etc/machine-id, cannot be baked into an image by mistake.
    tag = _first_line("/sys/devices/virtual/dmi/id/board_asset_tag")
    if tag.startswith("i-"):
        return tag
    identity = _first_line("/etc/machine-id")
    return f"{socket.gethostname()}-{identity[:8]}" if identity else socket.gethostname()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _core_settings(config: Config) -> CoreSettings:
    return CoreSettings(
        mtbf=config.checkpoint.mtbf_hours * 3600.0,
        first_save=config.checkpoint.min_interval,
        min_interval=config.checkpoint.min_interval,
        max_interval=config.checkpoint.max_interval,
        stop_grace=config.jobs.stop_grace,
        undrain_after=config.jobs.undrain_after,
    )


class Daemon:
    """One daemon, from start to end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = logs.get("spotwatchd")
        self._service = Service()
        self._ended = asyncio.Event()
        journal = Journal(config.state_dir / "journal.db", self._complain)
        machine = _machine_name(config)
        # Numbers of actions never repeat over restarts within one boot.
        core = Core(settings=_core_settings(config), first_number=int(boot_clock() * 1000))
        self._house = House(
            config=config,
            machine=machine,
            boot_id=_boot_id(),
            core=core,
            journal=journal,
            launcher=ChildLauncher(),
            receipts=Receipts(lambda key, doc: journal.post("receipt", key, doc), machine),
            log=self._log,
            post=self._post,
            clock=boot_clock,
            wall=time.time,
        )
        self._hands = Hands(self._house)
        self._gpus = GpuWatch(self._house)
        self._engine = Engine(
            core,
            act=self._hands.act,
            observe=self._observe,
            after_turn=self._hands.after_turn,
        )
        self._roster = Roster(self._house)
        self._offers = Offers(self._house, self._roster)
        self._watcher = self._make_watcher()
        self._desk = FrontDesk(self._house, self._roster)
        self._control = ControlServer(
            self._desk,
            path=config.socket,
            mode=config.socket_mode,
            on_bug=lambda error: self._log.error("bug in a request", exc_info=error),
        )
        self._house.open_door = self._control.doors.open
        self._house.close_door = self._control.doors.close
        self._tasks: list[asyncio.Task[None]] = []

    def _post(self, event: Event) -> None:
        self._engine.post(event)

    def _observe(self, event: Event) -> None:
        self._hands.observe(event)
        self._gpus.observe(event)

    def _complain(self, error: SpotwatchError) -> None:
        self._log.error(error.what, where=error.where, fix=error.remedy)

    def _make_watcher(self) -> ImdsWatcher | None:
        imds = self._config.imds
        if imds.endpoint == "off":
            return None
        settings = ImdsSettings(
            endpoint=imds.endpoint,
            poll_seconds=imds.poll_seconds,
            timeout=imds.timeout,
            imds_v1=imds.imds_v1,
            event_lead=imds.event_lead_seconds,
            autoscaling_seconds=imds.asg_seconds,
        )
        watcher = ImdsWatcher(
            settings,
            clock=boot_clock,
            deliver=self._post,
            alarm=self._log.warning,
        )
        self._house.watch = lambda: [watcher.health().document()]
        return watcher

    async def run(self) -> int:
        """Work until SIGTERM or SIGINT. Returns the exit status."""
        self._prepare()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        await self._house.journal.open()
        await self._recall()
        self._begin(self._engine.run(), "engine")
        self._begin(self._gpus.run(), "gpus")
        await self._control.start()
        if self._watcher is not None:
            self._begin(self._watcher.run(), "watch")
        if self._config.resume_from_store and self._config.store is not None:
            self._begin(self._look_into_store(self._config.store), "store")
        if self._config.private:
            self._begin(self._leave_when_idle(), "idle")
        self._service.ready(f"watching, {len(self._house.records)} jobs")
        self._log.info(
            "ready",
            machine=self._house.machine,
            socket=str(self._config.socket),
            store=self._config.store or "none",
            jobs=len(self._house.records),
        )
        try:
            return await self._wait()
        finally:
            await self._close()

    def _prepare(self) -> None:
        # A pidfd per process and a connection per listener: the soft limit of 1024 is for
        # programs that use select(2).
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        # What was loaded stays: a full collection of it would hold an ask up by 0.1 s.
        gc.collect()
        gc.freeze()
        # Jobs' users must pass through, to reach the socket and their own directories.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        for directory in (self._config.runtime_dir, self._config.state_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=mode)

    async def _recall(self) -> None:
        for key, document in (await self._house.journal.open_drains()).items():
            if document.get("boot_id") == self._house.boot_id:
                self._engine.post(NoticeSeen(_notice(document)))
            else:  # the machine came back: that notice was kept
                self._house.journal.post("drain", key, None)
        await self._roster.recall()

    def _begin(self, work: object, name: str) -> None:
        assert asyncio.iscoroutine(work)  # noqa: S101 - for the type
        self._tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    async def _wait(self) -> int:
        """Until asked to end, or until a task that never ends does: that is a bug."""
        ended = asyncio.get_running_loop().create_task(self._ended.wait(), name="ended")
        done, _ = await asyncio.wait({ended, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        for task in done - {ended}:
            error = task.exception()
            if error is not None:
                self._log.error(
                    "bug: a task of the daemon ended", task=task.get_name(), exc_info=error
                )
                return 1
        return 0

    async def _look_into_store(self, store: str) -> None:
        pause = _LOOK_RETRY[0]
        while True:
            try:
                found = await unfinished_jobs(store, _LOOK_LIMIT)
            except RuntimeError as error:
                if self._house.store_error is None:
                    self._log.warning("cannot look for jobs", store=store, error=str(error))
                self._house.store_error = str(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LOOK_RETRY[1])
                continue
            self._house.store_error, pause = None, _LOOK_RETRY[0]
            self._offers.look(found, store)
            unread = any(each.get("problem", {}).get("again") for each in found)
            await self._between_looks(_LOOK_SOON if unread else _LOOK_AGAIN)

    async def _between_looks(self, seconds: float) -> None:
        begun = self._house.clock()
        while self._house.clock() - begun < (min(seconds, _LOOK_IDLE) if self._idle() else seconds):
            await asyncio.sleep(_OFFER_AGAIN)
            self._offers.again()

    def _idle(self) -> bool:
        """No training is here that a look could disturb."""
        views = [self._house.core.view(name) for name in self._house.records]
        return not any(view is not None and view.life in ALIVE for view in views)

    async def _leave_when_idle(self) -> None:
        quiet = 0.0
        while quiet < _IDLE:
            await asyncio.sleep(0.25)
            records = self._house.records.values()
            quiet = 0.0 if any(map(self._busy, records)) or not records else quiet + 0.25

    def _busy(self, record: Record) -> bool:
        view = self._house.core.view(record.name)
        if view is None or view.life is Life.DONE:
            return False
        # Nobody here starts it again, and who did has ended.
        left = not record.managed and not record.processes and record.kept.attempt > 0
        return not (left and view.life is Life.WAITING and view.generation is None)

    async def _close(self) -> None:
        """Jobs and replicators go on; everything else ends, in the order that loses nothing."""
        self._service.stopping()
        await self._control.close()
        await self._desk.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hands.close()
        await self._roster.close()
        await self._house.launcher.close()
        await self._house.journal.close()


def _notice(document: dict[str, object]) -> Notice:
    return Notice(
        str(document["source"]),
        MachineAction(str(document["action"])),
        float(str(document["deadline"])),
        str(document["key"]),
        str(document["told"]),
    )


def run(config: Config) -> int:
    """Run a daemon. Returns its exit status."""

    async def main() -> int:
        return await Daemon(config).run()

    return asyncio.run(main())
