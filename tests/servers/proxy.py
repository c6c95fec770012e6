"""An HTTP proxy that fails on purpose, in front of a real server.

    with Proxy(seaweed.port) as proxy:
        proxy.add(Fault("lose", method="PUT", path="lease.json"))
        backend = open_backend(f"s3://bucket?endpoint={proxy.endpoint}", ...)

One request per connection. Requests are recorded before any fault, so a test can say how
often something was sent.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.servers.loop import LoopServer

Kind = Literal[
    "delay",  # answer correctly, `seconds` late
    "drop",  # close without an answer; the server never sees the request
    "reset",  # the same with a TCP reset
    "stall",  # say nothing until the client goes; the server never sees the request
    "answer",  # `status` with the S3 error `code`; the server never sees the request
    "lose",  # the server does it, and the answer is lost in a TCP reset
    "mute",  # the server does it, and the client waits for the answer in vain
    "cut",  # half of the server's answer, then a reset
    "boast",  # the server's answer promises 100 bytes more than come
    "garble",  # one bit of the request's body flips on its way
]


@dataclass
class Fault:
    """What goes wrong, for which requests.

    Attributes:
        kind: see Kind.
        method: only this method.
        path: only where this is part of the path or query.
        times: how often; -1 for ever.
        skip: let so many matching requests pass first.
        seconds: of ``delay``.
        status: of ``answer``.
        code: of ``answer``, S3's name for the error.
    """

    kind: Kind
    method: str = ""
    path: str = ""
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    status: int = 500
    code: str = "InternalError"

    def applies(self, request: Request) -> bool:
        """Whether this request is hit; counts."""
        if (self.method and self.method != request.method) or self.path not in request.target:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times == 0:
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    method: str
    target: str
    head: bytes
    body: bytes = field(repr=False)


class Proxy(LoopServer):
    """Forwards to a port of this machine. Use as a context manager.

    Attributes:
        endpoint: http://127.0.0.1:PORT of the proxy.
        seen: (method, target) of every request, in order.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.seen: list[tuple[str, str]] = []
        self._serving: set[asyncio.Task[None] | None] = set()

    def add(self, fault: Fault) -> None:
        """From now on; the first that applies to a request wins."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Behave from now on, and forget what was seen."""
        with self._lock:
            self._faults.clear()
            self.seen.clear()

    def count(self, method: str, path: str = "") -> int:
        """How many requests of this method had ``path`` in their target."""
        return sum(m == method and path in target for m, target in list(self.seen))

    async def _start(self) -> None:
        self._closing = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        self._closing.set()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The loop keeps no strong reference: a task whose client has gone while it waits for
        # the server's answer would be collected in the middle of that.
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            request = await _read_request(reader, writer)
            if request:
                await self._treat(request, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, which is its right
        finally:
            writer.close()
            self._serving.discard(task)

    def _fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            self.seen.append((request.method, request.target))
            return next((f for f in self._faults if f.applies(request)), None)

    async def _treat(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        fault = self._fault_for(request)
        match fault.kind if fault else "":
            case "drop":
                return
            case "reset":
                _reset(writer)
            case "stall":
                await self._until_gone(reader)
            case "answer":
                assert fault
                await _send(writer, _error(fault))
            case "garble":
                await _send(writer, await self._forward(request, _flipped(request.body)))
            case _:
                await self._answer(fault, request, reader, writer)

    async def _answer(
        self,
        fault: Fault | None,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        answer = await self._forward(request, request.body)
        if fault and fault.kind == "delay":
            await asyncio.wait({asyncio.ensure_future(self._closing.wait())}, timeout=fault.seconds)
        if fault and fault.kind == "mute":
            await self._until_gone(reader)
            return
        if fault and fault.kind in {"lose", "cut"}:
            await _send(writer, answer[: len(answer) // 2] if fault.kind == "cut" else b"")
            _reset(writer)
            return
        boasts = fault is not None and fault.kind == "boast"
        await _send(writer, _boasting(answer) if boasts else answer)

    async def _until_gone(self, reader: asyncio.StreamReader) -> None:
        gone = asyncio.ensure_future(reader.read())
        closing = asyncio.ensure_future(self._closing.wait())
        _, pending = await asyncio.wait({gone, closing}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

    async def _forward(self, request: Request, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            writer.write(request.head + body)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


async def _read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    if re.search(rb"(?i)\r\nexpect: *100-continue", head):
        await _send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    # Neither header is signed. The server closes, so its answer ends where its bytes end.
    kept = re.sub(rb"(?i)\r\n(expect|connection):[^\r]*", b"", head)
    head = kept.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    method, target, _ = head.split(b" ", 2)
    return Request(method.decode(), target.decode(), head, body)


def _error(fault: Fault) -> bytes:
    body = f"<Error><Code>{fault.code}</Code><Message>on purpose</Message></Error>".encode()
    head = f"HTTP/1.1 {fault.status} Fault\r\nContent-Type: application/xml\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _boasting(answer: bytes) -> bytes:
    said = re.search(rb"(?i)(\r\ncontent-length: *)(\d+)", answer)
    assert said
    return answer.replace(said[0], said[1] + b"%d" % (int(said[2]) + 100), 1)


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the peer gets RST: a linger time of zero does that."""
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
