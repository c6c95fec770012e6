"""Keeps the core told of this machine's GPUs: at the start, and when one may have gone."""

from __future__ import annotations

import asyncio

from spotwatchd.config import Config
from spotwatchd.core.events import JobExited, ResourcesSeen
from spotwatchd.engine.house import House
from spotwatchd.jobs.gpus import Found, Gpu, find

# A look wakes sleeping GPUs up and costs some tenths of a second of CPU.
_LOOK_AGAIN = 600.0
# While nvidia-smi does not answer, jobs may wait for GPUs that are there.
_LOOK_RETRY = 60.0


def configured(config: Config) -> Found | None:
    """What the configuration says, None when it says to look."""
    count = config.resources.gpus
    return Found(tuple(map(Gpu, range(count)))) if isinstance(count, int) else None


class GpuWatch:
    """Looks, and tells what changed."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._known: Found | None = None
        self._again = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        fixed = configured(self._house.config)
        if fixed is not None:
            self._tell(fixed)
            await asyncio.Event().wait()
        while True:
            self._tell(await find())
            await self._pause()

    async def _pause(self) -> None:
        known = self._known
        silent = known is not None and known.problem and not known.gpus
        pause = _LOOK_RETRY if silent else _LOOK_AGAIN
        self._again.clear()
        try:
            async with asyncio.timeout(pause):
                await self._again.wait()
        except TimeoutError:
            return

    def observe(self, event: object) -> None:
        """A GPU that falls off the bus takes its job with it: look before the next one starts."""
        if not isinstance(event, JobExited) or event.status in (0, None):
            return
        record = self._house.records.get(event.job)
        if record is not None and record.kept.gpus:
            self._again.set()

    def _tell(self, found: Found) -> None:
        before, self._known = self._known, found
        if before is not None and found.problem and not found.gpus:
            # It does not answer just now. Those it named before are there until it says so.
            found = self._known = Found(before.gpus, found.problem)
        if found.problem and (before is None or before.problem != found.problem):
            self._house.log.warning(
                "cannot see all GPUs",
                where=found.problem,
                fix="if they are fine, set resources.gpus in the daemon's configuration",
            )
        if before is None or before.gpus != found.gpus:
            self._changed(before.gpus if before else (), found.gpus)
        if found != before:
            there = tuple(gpu.index for gpu in found.gpus)
            limit = self._house.config.resources.cpu_jobs
            self._house.post(ResourcesSeen(there, limit, found.problem))

    def _changed(self, before: tuple[Gpu, ...], now: tuple[Gpu, ...]) -> None:
        gone = [gpu.index for gpu in before if gpu not in now]
        if gone:
            self._house.log.warning("GPUs are gone and are not given to jobs", gpus=gone)
        if now:
            self._house.log.info("GPUs", gpus=[gpu.index for gpu in now])
