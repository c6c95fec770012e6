"""The daemon's end of the line to a job's replicator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

Command = dict[str, Any]


class Link:
    """Commands to one replicator. The newest connection counts; an older one is ended.

    A command that finds nobody connected is dropped: the core issues it again when the
    replicator says hello.
    """

    def __init__(self, broke: Callable[[], None]) -> None:
        self._broke = broke
        self._queue: asyncio.Queue[Command | None] | None = None

    @property
    def connected(self) -> bool:
        """Somebody reads the commands."""
        return self._queue is not None

    def send(self, command: Command) -> None:
        """Queue a command for the connected replicator."""
        if self._queue is not None:
            self._queue.put_nowait(command)

    async def commands(self) -> AsyncGenerator[Command, None]:
        """The stream that a replicator reads."""
        self._end()
        queue: asyncio.Queue[Command | None] = asyncio.Queue()
        self._queue = queue
        try:
            while (command := await queue.get()) is not None:
                yield command
        finally:
            if self._queue is queue:
                self._queue = None
                self._broke()

    def _end(self) -> None:
        if self._queue is not None:
            self._queue.put_nowait(None)

    def close(self) -> None:
        """End the stream; the replicator will try to connect again."""
        self._end()
        self._queue = None
