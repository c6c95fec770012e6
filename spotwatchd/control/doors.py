"""A socket per job, for containers: whoever comes over it is that job, and nobody else.

In a container a peer's pid may be 0 for us and its uid anything: what the kernel says of it
means little. So the socket itself is the authority, and who gets to it is decided by the
directory it lies in (jobs/inside.py) and by who mounts that into a container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from spotwatchd.control import listen
from spotwatchd.control.connections import Door
from spotwatchd.errors import JobError
from spotwatchd.wire.paths import SOCKET_NAME

# The directory's own mode decides who gets this far.
_MODE = 0o666


class Doors:
    """The sockets of the jobs, by name."""

    def __init__(self, make: Callable[[str], Door], *, backlog: int) -> None:
        """``make`` a door for connections that are the named job's."""
        self._make = make
        self._backlog = backlog
        self._open: dict[str, tuple[Door, asyncio.Task[asyncio.Server]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, job: str, directory: int) -> None:
        """Listen in the directory that is open as ``directory``; no-op when it does already.

        Whoever connects from now on waits until the loop gets to it. Raises JobError.
        """
        if job in self._open:
            return
        try:
            listening = _listen(directory, self._backlog)
        except OSError as error:
            raise JobError(
                f"the socket of job {job} cannot be made: {error.strerror or error}",
                where=f"/proc/self/fd/{directory}/{SOCKET_NAME}",
                remedy="is the runtime directory full, or on a file system without sockets?",
            ) from error
        door = self._make(job)
        loop = asyncio.get_running_loop()
        serving = loop.create_unix_server(door, sock=listening, backlog=self._backlog)
        self._open[job] = (door, loop.create_task(serving, name=f"door-{job}"))

    def close(self, job: str) -> None:
        """Stop listening for the job, and end its connections."""
        if job in self._open:
            task = asyncio.get_running_loop().create_task(self._end(*self._open.pop(job)))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    @staticmethod
    async def _end(door: Door, serving: asyncio.Task[asyncio.Server]) -> None:
        (await serving).close()
        door.pre_shutdown()
        door.cut()
        # asyncio tells a protocol of its loss in the next turn of the loop.
        await asyncio.sleep(0)

    async def close_all(self) -> None:
        """Close every door. The files stay: a daemon that starts again replaces them."""
        for job in list(self._open):
            self.close(job)
        await asyncio.gather(*self._closing)


def _listen(directory: int, backlog: int) -> socket.socket:
    # Through the open directory: nobody can put another in its place, and the path is short.
    path = Path(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET_NAME, dir_fd=directory)
    made = listen.bind_narrow(path, _MODE)
    try:
        path.chmod(_MODE)  # the umask took its share
        made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made
