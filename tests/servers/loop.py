"""An event loop in a thread, so that blocking tests can talk to asyncio servers."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines until ``close``. Every call has a limit of 20 s."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def close(self) -> None:
        """Wait for what still runs, then end."""
        self.run(_others_done())
        self.run(_connections_gone())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


class LoopServer(ABC):
    """A server in a loop of its own, which runs ``_start`` and ``_stop``; a context manager."""

    @abstractmethod
    async def _start(self) -> None:
        """Listen."""

    @abstractmethod
    async def _stop(self) -> None:
        """Listen no more, and have what is under way end."""

    def __enter__(self) -> Self:
        self._loop = LoopThread()
        self._loop.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.run(self._stop())
        self._loop.close()


async def _others_done() -> None:
    """Those included that begin meanwhile: a connection may still wait to be accepted."""
    end = asyncio.get_running_loop().time() + 15
    await asyncio.sleep(0)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        left = end - asyncio.get_running_loop().time()
        if left <= 0:
            return
        await asyncio.wait(others, timeout=left)
        await asyncio.sleep(0)


async def _connections_gone() -> None:
    """What a client has not read keeps a connection open, and a loop that ends forgets it."""
    transports = getattr(asyncio.get_running_loop(), "_transports", {})
    for transport in list(transports.values()):
        # What is closed may only not be forgotten yet; aborting it again is an error.
        if transport.get_extra_info("socket").fileno() >= 0:
            transport.abort()
    for _ in range(3):  # their last callbacks
        await asyncio.sleep(0)
