"""Listeners and replicators at the end of a stream."""

from __future__ import annotations

import asyncio
from typing import Any

from spotwatchd.engine.broadcast import Broadcast
from spotwatchd.engine.link import Link


async def _collect(broadcast: Broadcast, into: list[dict[str, Any]]) -> None:
    async for document in broadcast.listen():
        into.append(document)  # noqa: PERF401 - seen while it grows


async def test_everybody_hears_what_is_sent_after_they_came() -> None:
    """Two listeners get the same documents in the same order; close ends them."""
    broadcast, first, second = Broadcast(), list[Any](), list[Any]()
    tasks = [asyncio.create_task(_collect(broadcast, each)) for each in (first, second)]
    await asyncio.sleep(0)
    for number in range(3):
        broadcast.send({"number": number})
    await asyncio.sleep(0)
    broadcast.close()
    await asyncio.gather(*tasks)
    assert first == second == [{"number": 0}, {"number": 1}, {"number": 2}]


async def test_who_comes_a_moment_later_misses_nothing() -> None:
    """`run` registers a job, then listens: what was said in between is repeated."""
    broadcast, seen = Broadcast(), list[Any]()
    broadcast.send({"line": "first"})
    task = asyncio.create_task(_collect(broadcast, seen))
    await asyncio.sleep(0)
    broadcast.close()
    await task
    assert seen == [{"line": "first"}]


async def test_a_listener_that_does_not_read_is_dropped() -> None:
    """A thousand documents behind: its stream ends, and memory does not grow with it."""
    broadcast = Broadcast()
    stream = broadcast.listen()
    pending = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    for number in range(1500):
        broadcast.send({"number": number})
    count = 1 + sum([1 async for _ in stream]) if await pending else 0
    assert 1000 <= count <= 1001


async def test_the_newest_replicator_gets_the_commands() -> None:
    """A second connection ends the first; a command without a reader is dropped."""
    broken: list[str] = []
    link = Link(lambda: broken.append("broken"))
    link.send({"do": "lost"})
    first = link.commands()
    waiting = asyncio.ensure_future(anext(first))
    await asyncio.sleep(0)
    assert link.connected
    second = link.commands()
    newer = asyncio.ensure_future(anext(second))
    await asyncio.sleep(0)
    link.send({"do": "take"})
    assert await newer == {"do": "take"}
    assert [each async for each in first if not waiting.cancel()] == []
    assert broken == []
    await second.aclose()
    assert broken == ["broken"]
    assert not link.connected
