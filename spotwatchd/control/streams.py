"""Event streams: newline-delimited JSON that a slow reader cannot make us hoard.

Nothing is queued here. A line goes to the transport at once, and what its reader has not
taken is what the transport holds; when that passes the limit the stream says
``{"event": "overflow"}`` and ends. One task beats for all streams, so that an idle daemon
wakes once per heartbeat and not once per stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from aiohttp import HttpVersion11, web

from spotwatchd.control.connections import Connection
from spotwatchd.control.desk import Document
from spotwatchd.control.limits import Limits
from spotwatchd.control.problems import Problem, problem_of
from spotwatchd.errors import SpotwatchError

CONTENT_TYPE = "application/x-ndjson"
# Made once: json.dumps with an argument that is not the default makes an encoder per call.
_encode = json.JSONEncoder(allow_nan=False).encode
Unexpected = Callable[[Exception, str], Problem]


class Stream:
    """One reader and the lines it gets. ``end()`` ends it from anywhere in the loop."""

    def __init__(self, request: web.BaseRequest, limits: Limits) -> None:
        """For the connection of ``request``. Raises ConnectionError when it is gone."""
        if request.transport is None:
            raise ConnectionResetError("the reader left before the stream began")
        self._request = request
        self._transport = request.transport
        self._limits = limits
        self._response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        self._response.content_type = CONTENT_TYPE
        self._response.force_close()
        self._chunked = request.version >= HttpVersion11
        self._scope = asyncio.timeout(None)
        self._running = False
        # Twice our own limit: the transport never pauses us before we have looked.
        self._transport.set_write_buffer_limits(high=2 * limits.stream_bytes)

    def end(self) -> None:
        """End the stream now; what is written already still goes out."""
        # A time-out that ran out: asyncio then tells our cancellation from everybody else's.
        if self._running and not self._scope.expired():
            self._scope.reschedule(0)

    async def carry(self, documents: AsyncIterator[Document], entered: Callable[[], None]) -> None:
        """Write ``documents`` as lines until they, the reader or ``end()`` end the stream."""
        try:
            async with self._scope:
                self._running = True
                entered()
                await self._write_all(documents)
        except TimeoutError:
            if not self._scope.expired():
                raise  # the documents' own, and unexpected
        finally:
            self._running = False

    async def _write_all(self, documents: AsyncIterator[Document]) -> None:
        # No other task runs between the head and the first look at the iterator: what
        # happens after the reader saw the head is in the stream.
        await self._response.prepare(self._request)
        async for document in documents:
            if not self.say(document):
                return

    def say(self, document: Document) -> bool:
        """Write one line; False when the reader is too slow and the stream has to end."""
        if self._transport.get_write_buffer_size() <= self._limits.stream_bytes:
            self._write(_encode(document).encode() + b"\n")
            return True
        self._write(b'{"event": "overflow"}\n')
        return False

    @property
    def lost(self) -> bool:
        """Whether the reader has gone."""
        return self._transport.is_closing()

    def last_words(self, problem: Problem) -> None:
        """Tell a reader that is still there why the stream ends."""
        if not self.lost:
            self.say({"event": "error", **problem.document()})

    def beat(self) -> None:
        """An empty line, unless the reader has lines to read anyway."""
        waits = self._transport.get_write_buffer_size() or self.lost
        if self._response.prepared and not waits:
            self._write(b"\n")

    def _write(self, line: bytes) -> None:
        if self.lost:
            raise ConnectionResetError("the reader has gone")
        # Past aiohttp's writer, which costs as much again as all the rest of a line, and an
        # ask goes to 1,000 readers. The framing is RFC 9112 section 7.1; HTTP/1.0 has none.
        self._transport.write(b"%x\r\n%b\r\n" % (len(line), line) if self._chunked else line)

    def finish(self) -> web.StreamResponse:
        """The response for aiohttp to close; a reader that does not read is cut off later."""
        loop = asyncio.get_running_loop()
        loop.call_later(self._limits.linger_seconds, self._transport.abort)
        return self._response


class Streams:
    """All open streams of a server."""

    def __init__(self, limits: Limits, unexpected: Unexpected) -> None:
        """``unexpected`` reports a defect and returns the problem that tells of it."""
        self._limits = limits
        self._unexpected = unexpected
        self._open: set[Stream] = set()
        self._closed = False
        self._quiet = asyncio.Event()
        self._heart: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> None:
        """Begin to beat."""
        self._heart = asyncio.create_task(self._beat(), name="spotwatchd stream heartbeat")

    async def serve(
        self, request: web.BaseRequest, documents: AsyncIterator[Document], where: str
    ) -> web.StreamResponse:
        """Answer ``request`` with ``documents``, then close them."""
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101 - for the type checker
        try:
            stream = Stream(request, self._limits)
            connection.on_lost = stream.end
            await self._carry(stream, documents, where)
        finally:
            connection.on_lost = None
            await _close(documents)
        return stream.finish()

    async def _carry(self, stream: Stream, documents: AsyncIterator[Document], where: str) -> None:
        def entered() -> None:
            self._open.add(stream)
            if self._closed:
                stream.end()

        try:
            await stream.carry(documents, entered)
        except SpotwatchError as error:
            stream.last_words(problem_of(error, where=where))
        except Exception as error:  # noqa: BLE001 - the boundary: a defect ends one stream only
            # A write to a reader that left between two lines is no defect.
            if not (stream.lost and isinstance(error, ConnectionError)):
                stream.last_words(self._unexpected(error, where))
        finally:
            self._open.discard(stream)
            if self._closed and not self._open:
                self._quiet.set()

    async def close(self) -> None:
        """End all streams and wait until they are over (bounded)."""
        self._closed = True
        if self._heart is not None:
            self._heart.cancel()
        for stream in list(self._open):
            stream.end()
        if self._open:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.close_seconds):
                    await self._quiet.wait()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._limits.heartbeat_seconds)
            for stream in list(self._open):
                stream.beat()


async def _close(documents: AsyncIterator[Document]) -> None:
    closer = getattr(documents, "aclose", None)  # a generator has it, a plain iterator may not
    if closer is not None:
        await closer()
