"""An HTTP proxy in front of a real store, with a weather (weather.py).

    with StormProxy(seaweed.port) as proxy:
        ...                     # calm
        proxy.begin(weather)    # the weather's clock starts
        ...
        proxy.calm()            # calm again; what is still on its way arrives first

Connections are kept alive, so a client's pool of connections meets the weather, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import Counter

from tests.servers.http1 import Answer, Head, exchange, read_head
from tests.servers.lies import bodiless, error, refusal
from tests.servers.loop import LoopServer
from tests.servers.weather import CALM, Spell, Target, Weather, classify

_LIMIT = 1 << 20
_STEP = 0.05  # seconds between two bites of what is slow


class _HangUp(Exception):
    """Close this connection."""


class StormProxy(LoopServer):
    """Forwards to a port of this machine. Use as a context manager.

    Attributes:
        endpoint: http://127.0.0.1:PORT of the proxy.
        hits: how often each kind of spell hit.
        requests: how many arrived.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._weather, self._began = CALM, 0.0
        self._attempts: Counter[Target] = Counter()
        self._connections: set[asyncio.StreamWriter] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._underway = 0  # requests that will still reach the store
        self._tasks: set[asyncio.Task[None]] = set()
        self.hits: Counter[str] = Counter()
        self.requests = 0
        # Holds the port while nobody listens on it.
        self._holder = _bound(0)
        self.port = int(self._holder.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"

    # ------------------------------------------------------------------ from any thread

    def begin(self, weather: Weather) -> None:
        """From now on."""
        with self._lock:
            self._weather, self._began = weather, time.monotonic()
            self._attempts.clear()
            self.hits = Counter()
        self._loop.run(self._plan_absences(weather))

    def calm(self) -> None:
        """Behave from now on. What was held back is delivered before this returns."""
        with self._lock:
            self._weather = CALM
        self._loop.run(self._settle())

    @property
    def age(self) -> float:
        """Seconds since the weather began."""
        return time.monotonic() - self._began

    # ------------------------------------------------------------------ the listener

    async def _start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, sock=_bound(self.port), limit=_LIMIT, backlog=100
        )

    async def _go_away(self) -> None:
        self._server.close()
        for writer in list(self._connections):
            _reset(writer)

    async def _plan_absences(self, weather: Weather) -> None:
        for begin, end in weather.absences:
            self._keep(self._tasks, self._be_absent(begin, end))

    def _keep(self, where: set[asyncio.Task[None]], body: object) -> None:
        task = asyncio.ensure_future(body)  # type: ignore[call-overload] # a coroutine
        where.add(task)
        task.add_done_callback(where.discard)

    async def _be_absent(self, begin: float, end: float) -> None:
        await asyncio.sleep(begin - self.age)
        self.hits["gone"] += 1
        await self._go_away()
        try:
            await asyncio.sleep(end - self.age)
        finally:
            await self._start()

    async def _settle(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await _ended(self._tasks)
        await _ended(self._late)
        while self._underway:  # noqa: ASYNC110 - it ends once per storm
            await asyncio.sleep(_STEP)

    async def _stop(self) -> None:
        await self._settle()
        await self._go_away()
        self._holder.close()

    # ------------------------------------------------------------------ one connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while (head := await read_head(reader)) is not None:
                await self._treat(head, reader, writer)
        except (OSError, _HangUp, asyncio.IncompleteReadError):
            pass  # the client went away, or is meant to
        finally:
            self._connections.discard(writer)
            writer.close()

    def _spell(self, head: Head) -> Spell | None:
        method, url, _ = head.first
        target = classify(method, url)
        with self._lock:
            self.requests += 1
            self._attempts[target] += 1
            spell = self._weather.spell(self.age, target, self._attempts[target])
            if spell:
                self.hits[spell.kind] += 1
            return spell

    async def _treat(
        self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        spell = self._spell(head)
        kind = spell.kind if spell else None
        if kind in {"close", "reset", "stall", "hasty503"}:
            await _before_the_body(str(kind), writer)
        if head.header("expect"):
            await _send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._body(spell, head.length, reader, writer)
        method = head.first[0]
        if (said := refusal(kind)) is not None:
            await _send(writer, bodiless(said, method))
            return
        request = _forwarded(head) + (self._flipped(body) if kind == "garble" else body)
        if spell and kind == "late":
            self._keep(self._late, self._deliver(request, spell.value))
            raise _reset(writer)
        answer = await self._exchange(spell, request)
        await self._answer(spell, method, answer, writer)

    async def _exchange(self, spell: Spell | None, request: bytes) -> Answer:
        self._underway += 1
        try:
            if spell and spell.kind == "delay":
                await asyncio.sleep(spell.value)
            return await exchange(self._target, request)
        finally:
            self._underway -= 1

    async def _body(
        self,
        spell: Spell | None,
        length: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes:
        if spell and spell.kind in {"reset_mid", "stall_body"}:
            await reader.readexactly(length // 2)
            if spell.kind == "reset_mid":
                raise _reset(writer)
            await _until_gone(writer)
        if spell and spell.kind == "slow":
            return await self._slowly(spell, length, reader)
        return await reader.readexactly(length)

    async def _slowly(self, spell: Spell, length: int, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while len(body) < length and self.age < spell.end:
            bite = min(length - len(body), max(1, int(spell.value * _STEP)))
            body += await reader.readexactly(bite)
            await asyncio.sleep(_STEP)
        return body + await reader.readexactly(length - len(body))

    async def _deliver(self, request: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(OSError):
            await exchange(self._target, request)

    async def _answer(
        self,
        spell: Spell | None,
        method: str,
        answer: Answer,
        writer: asyncio.StreamWriter,
    ) -> None:
        data = answer.encode()
        match spell.kind if spell else None:
            case "lost":
                raise _reset(writer)
            case "mute":
                await _until_gone(writer)
            case "error500":
                data = bodiless(error(500, "InternalError"), method)
            case "error200_done":
                data = bodiless(error(200, "InternalError"), method)
            case "half":
                more = str(answer.head.length + 100)
                await _send(writer, answer.head.with_header("Content-Length", more).raw)
                await _send(writer, answer.body)
                raise _HangUp
            case "cut":
                await _send(writer, data[: len(data) // 2])
                raise _HangUp
            case "stall_answer":
                await _send(writer, data[: len(data) // 2])
                await _until_gone(writer)
            case "drip":
                assert spell
                data = await self._drip(spell, data, writer)
            case "garble_answer":
                data = answer.head.raw + self._flipped(answer.body)
            case _:
                pass
        await _send(writer, data)

    def _flipped(self, body: bytes) -> bytes:
        """Another bit each time: what is twice wrong in the same way is wrong in the store."""
        if not body:
            return body
        where = self.requests * 7919 % len(body)
        return body[:where] + bytes([body[where] ^ 1]) + body[where + 1 :]

    async def _drip(self, spell: Spell, data: bytes, writer: asyncio.StreamWriter) -> bytes:
        """Send some of it slowly; returns the rest."""
        bite = max(1, int(spell.value * _STEP))
        while data and self.age < spell.end:
            await _send(writer, data[:bite])
            data = data[bite:]
            await asyncio.sleep(_STEP)
        return data


def _bound(port: int) -> socket.socket:
    found = socket.socket()
    # Both the holder and the listener have the port.
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("127.0.0.1", port))
    return found


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(set(tasks))


def _forwarded(head: Head) -> bytes:
    """As the store gets it: neither header is signed. It closes, so its answer has an end."""
    return head.with_header("Expect", None).with_header("Connection", "close").raw


async def _before_the_body(kind: str, writer: asyncio.StreamWriter) -> None:
    if kind == "reset":
        raise _reset(writer)
    if kind == "stall":
        await _until_gone(writer)
    if kind == "hasty503":
        await _send(writer, error(503, "SlowDown", Connection="close").encode())
    raise _HangUp


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _until_gone(writer: asyncio.StreamWriter) -> None:
    """Say nothing and read nothing until the client gives up."""
    with contextlib.suppress(OSError):
        # Reading would be noticing, and what stalls does not read.
        while not writer.is_closing() and not _hung_up(writer):  # noqa: ASYNC110
            await asyncio.sleep(_STEP)
    raise _HangUp


def _hung_up(writer: asyncio.StreamWriter) -> bool:
    peer: socket.socket = writer.get_extra_info("socket")
    # struct tcp_info begins with the state; 1 is TCP_ESTABLISHED.
    return peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1


def _reset(writer: asyncio.StreamWriter) -> _HangUp:
    """Close so that the peer gets RST: a linger time of zero does that."""
    peer: socket.socket | None = writer.get_extra_info("socket")
    if peer is not None and peer.fileno() >= 0:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return _HangUp()
