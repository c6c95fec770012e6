"""What happens to a job, told to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

# A listener that is this far behind is not reading; it is dropped rather than fed from memory.
_BACKLOG = 1000


def wall_text(seconds: float) -> str:
    """ISO 8601, UTC, milliseconds."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Broadcast:
    """One job's listeners."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any] | None]] = set()

    def send(self, document: dict[str, Any]) -> None:
        """Tell everybody; never waits."""
        for queue in list(self._queues):
            if queue.qsize() >= _BACKLOG:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(document)

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Everything from now on, until ``close`` or until this listener falls behind."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while (document := await queue.get()) is not None:
                yield document
        finally:
            self._queues.discard(queue)

    def close(self) -> None:
        """End every listener's stream."""
        for queue in self._queues:
            queue.put_nowait(None)
        self._queues.clear()
