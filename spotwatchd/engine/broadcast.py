"""What happens to a job, told to whoever listens."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

# A listener that is this far behind is not reading; it is dropped rather than fed from memory.
_BACKLOG = 1000
# Whoever registers a job and then listens must not miss the first sentences.
_REPLAY_SECONDS, _REPLAY_COUNT = 3.0, 20


def wall_text(seconds: float) -> str:
    """ISO 8601, UTC, milliseconds."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Broadcast:
    """One job's listeners."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._recent: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_REPLAY_COUNT)

    def send(self, document: dict[str, Any]) -> None:
        """Tell everybody; never waits."""
        self._recent.append((time.monotonic(), document))
        for queue in list(self._queues):
            if queue.qsize() >= _BACKLOG:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(document)

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        """The last seconds and everything from now on, until ``close`` or it falls behind."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        since = time.monotonic() - _REPLAY_SECONDS
        for at, earlier in self._recent:
            if at >= since:
                queue.put_nowait(earlier)
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
