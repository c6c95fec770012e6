"""A loop in a thread, for programs that have no loop of their own."""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol


class Served(Protocol):
    """What the thread serves."""

    async def start(self) -> None:
        """Begin; an error is raised in the thread that asked for it."""

    async def stop(self) -> None:
        """End."""


class ServingThread(threading.Thread):
    """Serves until told to end."""

    def __init__(self, imds: Served) -> None:
        super().__init__(name="fake-imds", daemon=True)
        self._imds = imds
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None

    def start_serving(self) -> None:
        """Return when it listens; raise what kept it from doing so."""
        self.start()
        self._ready.wait()
        if self._error is not None:
            self.join()
            raise self._error

    def end(self) -> None:
        """Stop serving and wait for it."""
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)
        self.join()

    def run(self) -> None:
        """The thread."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._imds.start()
        except BaseException as error:  # noqa: BLE001 - it is raised in the other thread
            self._error = error
            return
        finally:
            self._ready.set()
        await self._end.wait()
        await self._imds.stop()
