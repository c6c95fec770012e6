"""What can go wrong with the fake metadata service, on demand."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp import web

# Kind of fault -> what a client sees.
KINDS = {
    "latency": "answers after AMOUNT seconds (0.5)",
    "hang": "takes the request and says nothing",
    "drop": "closes the connection instead of an answer",
    "reset": "resets the connection instead of an answer",
    "500": "answers 500",
    "503": "answers 503",
    "unauthorized": "answers 401 to every token",
    "expire-tokens": "forgets all tokens, once",
    "disabled": "answers 403 to everything, as if metadata was turned off",
    "garbage": "answers 200 with something else each time that means nothing",
    "html": "answers 200 with an HTML page",
    "truncated": "announces a body, sends half of it and closes",
    "slowloris": "sends one byte every AMOUNT seconds (0.2)",
    "huge": "answers 200 with a body of AMOUNT bytes (1,000,000)",
    "skew": "the service's clock (Date and the time of new notices) is AMOUNT seconds ahead (3600)",
    "bad-date": "sends a Date header that is not a date",
    "sliding": "the notice always says two minutes from now",
}

# These change what is said; all others change how, and act on a request.
STANDING = frozenset({"skew", "bad-date", "sliding"})

_AMOUNTS = {"latency": 0.5, "slowloris": 0.2, "huge": 1e6, "skew": 3600.0}

# A body of 100 MB, a clock three years off.
_LARGEST_AMOUNT = 1e8

_GARBAGE = (
    b"",
    b"null",
    b"[]",
    b'{"action": "terminate", "ti',
    b'{"action": "terminate"}',
    b'{"action": "terminate", "time": "soon"}',
    b'{"action": 7, "time": "2026-11-21T12:00:00Z"}',
    b'{"action": "terminate", "time": "2026-13-41T25:61:61Z"}',
    b"\xff\xfe\x00\x01",
    b"[" * 20_000,
)

_HTML = b"<!DOCTYPE html><html><body>It works!</body></html>\n"


@dataclass
class Fault:
    """One fault in force.

    Attributes:
        kind: one of KINDS.
        path: it acts on request paths that contain this text ("": all).
        until: time.monotonic() when it ends by itself; None: when healed.
        left: number of requests it still acts on; None: any number.
        amount: see KINDS.
    """

    kind: str
    path: str
    until: float | None
    left: int | None
    amount: float


class Faults:
    """The faults in force. Safe to change from another thread."""

    def __init__(self) -> None:
        self._active: tuple[Fault, ...] = ()

    def add(
        self, kind: str, path: str, seconds: float | None, times: int | None, amount: float | None
    ) -> None:
        """Raises ValueError for an unknown kind or an amount beyond reason."""
        if kind not in KINDS:
            raise ValueError(f"no fault is called {kind!r}; there are: {', '.join(KINDS)}")
        if amount is not None and abs(amount) > _LARGEST_AMOUNT:
            raise ValueError(f"amount is {amount:g}, and no fault goes beyond {_LARGEST_AMOUNT:g}")
        until = None if seconds is None else time.monotonic() + seconds
        chosen = _AMOUNTS.get(kind, 0.0) if amount is None else amount
        self._active = (*self._active, Fault(kind, path, until, times, chosen))

    def heal(self) -> None:
        """End them all."""
        self._active = ()

    def standing(self, kind: str) -> Fault | None:
        """The fault of ``kind`` in force, if any."""
        return next((fault for fault in self._current() if fault.kind == kind), None)

    def strike(self, path: str) -> Fault | None:
        """The fault that acts on a request for ``path``, counted as one of its times."""
        for fault in self._current():
            if fault.kind not in STANDING and fault.path in path:
                if fault.left is not None:
                    fault.left -= 1
                return fault
        return None

    def names(self) -> list[str]:
        """The kinds in force."""
        return [fault.kind for fault in self._current()]

    def _current(self) -> Iterator[Fault]:
        now = time.monotonic()
        for fault in self._active:
            if (fault.until is None or now < fault.until) and fault.left != 0:
                yield fault


class Saboteur:
    """Carries out the faults that act on a request."""

    def __init__(self, closing: asyncio.Event) -> None:
        self._closing = closing
        self._garbage = itertools.cycle(_GARBAGE)

    async def answer(
        self, request: web.Request, fault: Fault, good: Callable[[], web.Response]
    ) -> web.StreamResponse:
        """The answer that ``fault`` makes out of the ``good`` one."""
        match fault.kind:
            case "latency":
                await self._pause(fault.amount)
                return good()
            case "truncated":
                return await _truncated(request, good())
            case "slowloris":
                return await self._drip(request, good(), fault.amount)
            case "hang" | "drop" | "reset":
                return await self._silence(request, fault)
            case _:
                return self._instead(fault)

    async def _silence(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        """Faults that end without any answer."""
        if fault.kind == "hang":
            await self._pause(None if fault.until is None else fault.until - time.monotonic())
        return _reset(request) if fault.kind == "reset" else _closed(request)

    def _instead(self, fault: Fault) -> web.Response:
        """Faults that are an answer of their own."""
        match fault.kind:
            case "garbage":
                return web.Response(body=next(self._garbage), content_type="text/plain")
            case "html":
                return web.Response(body=_HTML, content_type="text/html")
            case "huge":
                return web.Response(body=b"9" * int(fault.amount), content_type="text/plain")
            case "disabled":
                return web.Response(status=403)
            case "unauthorized":
                return web.Response(status=401)
            case _:
                return web.Response(status=int(fault.kind))

    async def _pause(self, seconds: float | None) -> None:
        """Wait, but not longer than the service lives."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return

    async def _drip(
        self, request: web.Request, good: web.Response, interval: float
    ) -> web.StreamResponse:
        for byte in _raw(good):
            transport = request.transport
            if transport is None or transport.is_closing() or self._closing.is_set():
                break
            transport.write(bytes([byte]))
            await self._pause(interval)
        return _closed(request)


def _raw(response: web.Response) -> bytes:
    body = response.body if isinstance(response.body, bytes) else b""
    head = f"HTTP/1.1 {response.status} {response.reason}\r\n"
    for name, value in response.headers.items():
        head += f"{name}: {value}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _closed(request: web.Request) -> web.StreamResponse:
    # Without a transport aiohttp takes the client for gone and writes nothing.
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def _reset(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        # Lingering for zero seconds turns the close into a RST.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _truncated(request: web.Request, good: web.Response) -> web.StreamResponse:
    if not good.body:
        good.text = "there is more to say about this"
    body = good.body if isinstance(good.body, bytes) else b""
    if request.transport is not None:
        request.transport.write(_raw(good)[: -(len(body) + 1) // 2])
    return _closed(request)
