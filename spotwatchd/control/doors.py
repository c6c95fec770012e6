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
from spotwatchd.control.connections import Door, OnBug
from spotwatchd.wire.paths import SOCKET_NAME

# The directory's own mode decides who gets this far.
_MODE = 0o666


class Doors:
    """The sockets of the jobs, by name."""

    def __init__(self, make: Callable[[str], Door], *, backlog: int, on_bug: OnBug) -> None:
        """``make`` a door for connections that are the named job's; ``on_bug`` if that fails."""
        self._make = make
        self._on_bug = on_bug
        self._backlog = backlog
        self._open: dict[str, tuple[Door, asyncio.Task[asyncio.Server | None]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, job: str, directory: int) -> None:
        """Begin to listen in the directory that is open as ``directory``, unless that is done."""
        if job not in self._open:
            door = self._make(job)
            serving = self._serve(door, os.dup(directory))
            task = asyncio.get_running_loop().create_task(serving, name=f"door-{job}")
            self._open[job] = (door, task)

    async def ready(self, job: str) -> None:
        """Until the job's socket is there."""
        await asyncio.shield(self._open[job][1])

    async def _serve(self, door: Door, directory: int) -> asyncio.Server | None:
        try:
            listening = await asyncio.to_thread(_listen, directory, self._backlog)
        except OSError as error:  # the job runs all the same, only in no container
            self._on_bug(error)
            return None
        finally:
            os.close(directory)
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(door, sock=listening, backlog=self._backlog)

    def close(self, job: str) -> None:
        """Stop listening for the job, and end its connections."""
        if job in self._open:
            task = asyncio.get_running_loop().create_task(self._end(*self._open.pop(job)))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    @staticmethod
    async def _end(door: Door, serving: asyncio.Task[asyncio.Server | None]) -> None:
        server = await serving
        if server is not None:
            server.close()
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
