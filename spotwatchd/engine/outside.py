"""What of a job's attempt the daemon did not start: ended before the attempt counts as over.

The core gives the lease back once it hears that all processes are gone, so it hears that only
when it is so: of containers (jobs/container.py), and of what an external launcher left behind.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from spotwatchd.jobs import leftovers
from spotwatchd.jobs.container import Container, recognise

_TURN = 0.1

Say = Callable[[str], None]


class Outside:
    """The containers of one job."""

    def __init__(self, cgroups: list[str], grace: float) -> None:
        """Set up.

        Args:
            cgroups: of an earlier life of the daemon; kept up to date here.
            grace: seconds between SIGTERM and SIGKILL.
        """
        self._grace = grace
        self._cgroups = cgroups
        self._containers = [Container(Path(each)) for each in cgroups]
        self._ending: asyncio.Task[None] | None = None
        self._sweeps: set[asyncio.Task[None]] = set()
        self._left = False

    @property
    def busy(self) -> bool:
        """A launcher is gone, and what it started may still run."""
        return self._left

    async def joined(self, pid: int) -> bool:
        """A process came over the job's own socket. False: what else is there is not to be seen."""
        found = await asyncio.to_thread(recognise, pid)
        if found is None:
            return False
        if any(_same(found, each) for each in self._containers):
            found.close()
            return True
        self._containers.append(found)
        if found.cgroup is not None:
            self._cgroups.append(str(found.cgroup))
        return found.cgroup is not None or found.namespace != 0

    def left(self, mark: Path | None) -> None:
        """A launcher ended: nothing that it started outlives it, however it ended."""
        if mark is not None:
            self._left = True
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(leftovers.end, mark))
            self._sweeps.add(task)
            task.add_done_callback(self._sweeps.discard)

    def then(self, gone: Callable[[], None], say: Say, mark: Path | None = None) -> None:
        """Call ``gone`` once nothing runs any more; at once where nothing was outside.

        Args:
            gone: tells the core.
            say: tells people why it takes long.
            mark: of the attempt, where its processes carry it (jobs/leftovers.py).
        """
        if not self._containers and mark is None:
            gone()
            return
        before = self._ending

        async def work() -> None:
            if before is not None:
                await before
            await self._end(say, mark)
            self._left = False
            gone()

        self._ending = asyncio.get_running_loop().create_task(work(), name="outside")

    async def _end(self, say: Say, mark: Path | None) -> None:
        if mark is not None:
            await asyncio.gather(*self._sweeps)
            await asyncio.to_thread(leftovers.end, mark)
        for container in list(self._containers):
            await _end(container, self._grace, say)
            self._containers.remove(container)
            if container.cgroup is not None:
                self._cgroups.remove(str(container.cgroup))
            container.close()

    async def close(self) -> None:
        """Let go; what runs goes on, and is found again by its cgroup."""
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.gather(self._ending, return_exceptions=True)
        await asyncio.gather(*self._sweeps, return_exceptions=True)
        for container in self._containers:
            container.close()


def _same(one: Container, other: Container) -> bool:
    if one.namespace and other.namespace:
        return one.namespace == other.namespace
    return one.cgroup is not None and one.cgroup == other.cgroup


async def _end(container: Container, grace: float, say: Say) -> None:
    """SIGTERM, SIGKILL after the grace, until nothing is left. However long that takes."""
    loop = asyncio.get_running_loop()
    kill_at, told, termed = loop.time() + grace, False, False
    while members := await asyncio.to_thread(container.members):
        late = loop.time() >= kill_at
        if late or not termed:
            number = signal.SIGKILL if late else signal.SIGTERM
            refused = await asyncio.to_thread(container.send, number)
            if refused and not told:
                told = True
                say(_refused(members))
        termed = True
        await asyncio.sleep(_TURN)


def _refused(members: list[int]) -> str:
    count = "1 process" if len(members) == 1 else f"{len(members)} processes"
    return (
        f"{count} of its container may not be ended by spotwatchd (pid {members[0]}): the lease is "
        "kept until nothing runs there; end it (docker stop), or run spotwatchd as root"
    )
