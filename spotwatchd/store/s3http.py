"""One HTTP/1.1 connection for large bodies: sendfile out, one reused buffer in.

Knows nothing of S3. Every wait is cut into short ticks, so that a cancelled or overdue
operation ends in the middle of a body, and silence (no byte either way for the whole
time-out) is told from slowness.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spotwatchd.store.base import Limits

# How late a send or an answer notices that nobody wants it any more.
TICK = 0.25
# Bytes between two looks at the limits.
CHUNK = 1 << 20
# Bytes that the kernel may hold beyond what is on the wire: what waits there has been counted
# as sent, and goes on taking the link's room when another job is to have it.
_UNSENT = 1 << 20
_HEAD_LIMIT = 64 << 10
_BODY_LIMIT = 16 << 20
_NOT_YET = (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Broken(Exception):
    """No connection, it ended too early, or what came is no HTTP.

    Attributes:
        unanswered: not one byte of an answer had come.
    """

    def __init__(self, what: str, *, unanswered: bool = False) -> None:
        super().__init__(what)
        self.unanswered = unanswered


class Untrusted(Broken):
    """The other side's certificate is not to be trusted."""


class Short(Exception):
    """The file ended before the piece did."""


class _Unsent(Exception):
    """The body could not be sent to its end; there may be an answer that says why."""


@dataclass(frozen=True)
class Address:
    """Where to connect. ``tls`` None is plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Timeouts:
    """Seconds: until a connection stands, and of silence after which it counts as lost."""

    connect: float
    silence: float


@dataclass
class Answer:
    """Status, headers (lower-case names) and, once read, the body."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


Body = Callable[["Connection", bytes, Limits], None]
"""Sends a request's head and its body."""


class Connection:
    """One connection, used by one thread at a time. Closed by whoever opened it.

    Attributes:
        answers: how many requests were answered on it.
        idle_since: time.monotonic() of the last answer.
        reusable: whether the next request may follow on it.
    """

    def __init__(self, address: Address, timeouts: Timeouts, limits: Limits) -> None:
        self._patience = self._silence = timeouts.silence
        self.answers = 0
        self.idle_since = time.monotonic()
        self.reusable = True
        self._early = b""
        self._heard = False
        limits.check()
        plain, self._tls = _connected(address, limits.left(timeouts.connect))
        self._plain = self._tls or plain
        self._set_tick(plain)

    def _set_tick(self, plain: socket.socket) -> None:
        if self._tls is not None:
            self._tls.settimeout(TICK)
            return
        # Blocking, with the kernel's own time-outs: sendfile then fills the socket by itself.
        plain.settimeout(None)
        tick = struct.pack("ll", 0, int(TICK * 1e6))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, tick)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, tick)

    def close(self) -> None:
        """At once, without a word to the other side."""
        self.reusable = False
        with contextlib.suppress(OSError):
            self._plain.close()

    def unsent(self) -> int:
        """Bytes that were given to the kernel and not acknowledged yet; see tcp(7), SIOCOUTQ."""
        try:
            answer = fcntl.ioctl(self._plain.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # it is closed
            return 0
        return int(struct.unpack("i", answer)[0])

    def is_stale(self) -> bool:
        """Whether the other side has closed it while nobody looked."""
        poll = select.poll()
        poll.register(self._plain, _GONE)
        return bool(poll.poll(0))

    # ------------------------------------------------------------------ out

    def request(self, head: bytes, body: Body, limits: Limits) -> Answer:
        """Send a request and read the head of its answer.

        Raises Broken, Short, and what ``limits`` raises.
        """
        self.reusable = self._heard = False
        self._silence = limits.left(self._patience)
        try:
            body(self, head, limits)
        except _Unsent as error:
            # A server that refuses a body may say so and close before it has arrived.
            try:
                answer = self._read_head(limits)
            except Broken:
                raise Broken(str(error), unanswered=not self._heard) from error
            answer.headers["connection"] = "close"
            return answer
        return self._read_head(limits)

    def send(self, data: bytes | memoryview, limits: Limits) -> None:
        """All of ``data``."""
        view = memoryview(data)
        for _ in self._tries(limits):
            try:
                sent = self._plain.send(view)
            except _NOT_YET:
                continue
            except OSError as error:
                raise _Unsent(str(error)) from error
            view = view[sent:]
            if not view:
                return
            self._alive()

    def send_file(self, file: int, offset: int, size: int, limits: Limits) -> None:
        """A piece of a file. Raises Short when the file ends before the piece does."""
        buffer = memoryview(bytearray(min(CHUNK, size))) if self._tls else None
        end = offset + size
        while offset < end:
            want = min(CHUNK, end - offset)
            limits.spend(want)
            if buffer is None:
                offset += self._sendfile(file, offset, want, limits)
            else:
                got = os.preadv(file, [buffer[:want]], offset)
                if not got:
                    raise Short
                self.send(buffer[:got], limits)
                offset += got

    def _sendfile(self, file: int, offset: int, size: int, limits: Limits) -> int:
        done = 0
        for _ in self._tries(limits):
            if self._answered():
                raise _Unsent("it was answered before the body was sent")
            try:
                sent = os.sendfile(self._plain.fileno(), file, offset + done, size - done)
            except _NOT_YET:
                continue
            except OSError as error:
                raise _Unsent(str(error)) from error
            if not sent:
                raise Short
            done += sent
            if done == size:
                break
            self._alive()
        return done

    def _answered(self) -> bool:
        poll = select.poll()
        poll.register(self._plain, select.POLLIN)
        return bool(poll.poll(0))

    # ------------------------------------------------------------------ in

    def _read_head(self, limits: Limits) -> Answer:
        while True:
            head = self._head_bytes(limits)
            answer = _parsed(head)
            if answer.status >= 200:
                return answer

    def _head_bytes(self, limits: Limits) -> bytes:
        data, self._early = self._early, b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > _HEAD_LIMIT:
                raise Broken("the answer's head has no end")
            data += self._some(limits)
        self._early = data[end + 4 :]
        return data[:end]

    def _some(self, limits: Limits) -> bytes:
        buffer = bytearray(_HEAD_LIMIT)
        got = self._receive(memoryview(buffer), limits)
        if not got:
            raise Broken("the connection ended without an answer", unanswered=not self._heard)
        self._heard = True
        return bytes(buffer[:got])

    def _receive(self, view: memoryview, limits: Limits, flags: int = 0) -> int:
        for _ in self._tries(limits):
            try:
                if self._tls is not None:
                    return self._tls.recv_into(view)
                return self._plain.recv_into(view, flags=flags)
            except _NOT_YET:
                continue
            except OSError as error:
                raise Broken(str(error), unanswered=not self._heard) from error
        raise AssertionError("the tries never end by themselves")

    def read_body(self, answer: Answer, limits: Limits) -> None:
        """The rest of a small answer, into ``answer.body``. Raises Broken."""
        no_body = answer.status in {204, 304}
        if answer.headers.get("transfer-encoding", "").lower() == "chunked":
            answer.body = self._chunked(limits)
        elif not no_body and (length := _length(answer)):
            if length > _BODY_LIMIT:
                raise Broken("the answer is larger than any that was asked for")
            answer.body = self._exactly(length, limits)
        self.done(answer)

    def _exactly(self, size: int, limits: Limits) -> bytes:
        data, self._early = self._early[:size], self._early[size:]
        while len(data) < size:
            data += self._some(limits)
        self._early = data[size:] + self._early
        return data[:size]

    def _chunked(self, limits: Limits) -> bytes:
        body = b""
        while size := self._chunk_size(limits):
            body += self._exactly(size, limits)
            if len(body) > _BODY_LIMIT:
                raise Broken("the answer is larger than any that was asked for")
            self._line(limits)
        while self._line(limits):
            pass
        return body

    def _chunk_size(self, limits: Limits) -> int:
        line = self._line(limits)
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError:
            raise Broken(f"no chunk begins with {line[:40]!r}") from None

    def _line(self, limits: Limits) -> bytes:
        data, self._early = self._early, b""
        while b"\r\n" not in data:
            if len(data) > _HEAD_LIMIT:
                raise Broken("a line of the answer has no end")
            data += self._some(limits)
        line, _, self._early = data.partition(b"\r\n")
        return line

    def stream(
        self, size: int, sink: Callable[[memoryview], None], buffer: memoryview, limits: Limits
    ) -> None:
        """``size`` bytes of a large body, a buffer at a time. Raises Broken."""
        while size:
            want = buffer[: min(len(buffer), size)]
            self._fill(want, limits)
            sink(want)
            size -= len(want)

    def _fill(self, view: memoryview, limits: Limits) -> None:
        early, self._early = self._early[: len(view)], self._early[len(view) :]
        view[: len(early)] = early
        have = len(early)
        limits.check()
        while have < len(view):
            got = self._receive(view[have:], limits, socket.MSG_WAITALL)
            if not got:
                raise Broken("the connection ended in the middle of the answer")
            have += got

    def done(self, answer: Answer, *, whole: bool = True) -> None:
        """The answer was read (``whole``: to its end, so the connection may be used again)."""
        self.answers += 1
        self.idle_since = time.monotonic()
        closes = answer.headers.get("connection", "").lower() == "close"
        self.reusable = whole and not closes and not self._early

    # ------------------------------------------------------------------ time

    def _alive(self) -> None:
        self._last = time.monotonic()

    def _tries(self, limits: Limits) -> Iterator[None]:
        """Turn after turn until there was silence for too long."""
        self._alive()
        while True:
            limits.check()
            yield
            silent = time.monotonic() - self._last
            if silent >= self._silence:
                raise Broken(f"silent for {silent:.1f} s", unanswered=False)


def _connected(address: Address, within: float) -> tuple[socket.socket, ssl.SSLSocket | None]:
    """Connected within so many seconds, and as many for the handshake. Raises Broken."""
    try:
        plain = socket.create_connection((address.host, address.port), timeout=within)
    except OSError as error:
        raise Broken(f"no connection: {error}") from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        if address.tls is None:
            return plain, None
        return plain, address.tls.wrap_socket(plain, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise Untrusted(str(error)) from error
    except OSError as error:
        plain.close()
        raise Broken(f"no connection: {error}") from error


def _length(answer: Answer) -> int:
    try:
        length = int(answer.headers.get("content-length", "0"))
    except ValueError:
        length = -1
    if length < 0:
        raise Broken("the answer's length is no number")
    return length


def _parsed(head: bytes) -> Answer:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
        raise Broken(f"no HTTP answer begins with {first[:40]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if words[0] == "HTTP/1.0":
        headers["connection"] = "close"
    return Answer(int(words[1]), headers)
