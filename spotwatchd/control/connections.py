"""One connection: its caller, its place among the others, and answers to what is not HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import http_exceptions, web

from spotwatchd.control.limits import Limits
from spotwatchd.control.peers import Caller
from spotwatchd.control.problems import CONTENT_TYPE, Problem

OnBug = Callable[[BaseException], None]

# aiohttp's own words stay out of the daemon's log: refusals are answers, and what is a
# defect goes to on_bug.
_QUIET = logging.getLogger("spotwatchd.control.aiohttp")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class Gate:
    """Counts connections and says who has too many."""

    def __init__(self, limits: Limits, *, total: int, privileged: frozenset[int]) -> None:
        """Admit ``total`` connections; the uids in ``privileged`` may also use the reserve."""
        self._limits = limits
        self._total = total
        self._privileged = privileged
        self._open: Counter[int | str] = Counter()

    @property
    def open(self) -> int:
        """Connections at present."""
        return self._open.total()

    def enter(self, uid: int, only: str | None = None) -> Problem | None:
        """Count a connection of ``uid``, or return why it may not come in.

        Over the socket of the job ``only`` it counts for that job, whatever uid it has.
        """
        allowed, who = self._total, uid if only is None else only
        if only is not None or uid not in self._privileged:
            allowed -= self._limits.reserved
            if self._open[who] >= self._limits.connections_per_uid:
                name = f"uid {uid}" if only is None else f"job {only}"
                return _too_many(f"{name} has {self._open[who]} connections open already", 429)
        if self.open >= allowed:
            return _too_many(f"{self.open} connections are open already", 503)
        self._open[who] += 1
        return None

    def leave(self, uid: int, only: str | None = None) -> None:
        """A connection that came in has ended."""
        who = uid if only is None else only
        self._open[who] -= 1
        if not self._open[who]:
            del self._open[who]


def _too_many(what: str, status: int) -> Problem:
    return Problem(
        status,
        "too-many-connections",
        what,
        where="the socket of spotwatchd",
        remedy="close connections that are not needed, then try again",
        headers={"Retry-After": "1"},
    )


class Connection(web.RequestHandler):
    """aiohttp's protocol with our admission, our identity and our refusals.

    Attributes:
        caller: the peer; set as soon as it is connected.
        on_lost: called once when the peer goes away; set by an event stream.
    """

    caller: Caller
    on_lost: Callable[[], None] | None = None
    _refused = False

    def __init__(self, server: Door, **settings: Any) -> None:
        """A connection of ``server``; ``settings`` are aiohttp's."""
        super().__init__(server, **settings)
        self._door = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is, then let it in or tell it why not."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._open = transport
        self._door.transports.add(transport)
        connection, door = transport.get_extra_info("socket"), self._door
        self.caller = Caller(connection, peerpidfd=door.peerpidfd, only=door.only)
        refusal = door.gate.enter(self.caller.uid, door.only)
        if refusal is None:
            super().connection_made(transport)
        else:
            self._refused = True
            self._refuse(transport, refusal)

    def _refuse(self, transport: asyncio.Transport, problem: Problem) -> None:
        transport.write(_raw_answer(problem))
        if not self._door.may_linger():
            transport.close()
            return
        # Closing with its request unread would reset the connection before it reads the answer.
        transport.write_eof()
        self._door.lingering += 1
        loop = asyncio.get_running_loop()
        loop.call_later(self._door.limits.linger_seconds, self._let_go, transport)

    def _let_go(self, transport: asyncio.Transport) -> None:
        self._door.lingering -= 1
        transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, or nobody when the connection was refused."""
        if not self._refused:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back and end the stream that was written to it."""
        self._door.transports.discard(self._open)
        if self._refused:
            return
        self._door.gate.leave(self.caller.uid, self._door.only)
        lost, self.on_lost = self.on_lost, None
        super().connection_lost(exc)
        if lost is not None:
            lost()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - may quote what the peer sent
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or too much of it, with a problem of ours."""
        if status == HTTPStatus.INTERNAL_SERVER_ERROR and exc is not None:
            self._door.on_bug(exc)
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer had begun")
        response = answer(_malformed(status, exc))
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:  # noqa: ARG002 - aiohttp's signature
        """Aiohttp met something that it did not expect: a defect."""
        error = kw.get("exc_info")
        if isinstance(error, BaseException):
            self._door.on_bug(error)


def answer(problem: Problem) -> web.Response:
    """The HTTP response that carries ``problem``."""
    return web.Response(
        status=problem.status,
        body=problem.encoded(),
        headers={"Content-Type": CONTENT_TYPE, "Server": "spotwatchd", **problem.headers},
    )


def _malformed(status: int, exc: BaseException | None) -> Problem:
    if isinstance(exc, http_exceptions.LineTooLong):
        return Problem(
            431,
            "header-too-large",
            "the request line or a header is too long",
            where="the head of the request",
            remedy="send shorter headers; Content-Type is the only one that matters",
        )
    return Problem(
        status,
        "not-http",
        f"this is not an HTTP/1.1 request that spotwatchd understands ({type(exc).__name__})",
        where="the head of the request",
        remedy="try: curl --unix-socket PATH http://localhost/v1/status",
    )


def _raw_answer(problem: Problem) -> bytes:
    body = problem.encoded()
    lines = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Door(web.Server):
    """Makes a ``Connection`` for each peer.

    Attributes:
        transports: of all peers, refused ones included.
        lingering: refused peers that are still allowed to read why.
        only: the job whose own socket this is, None for the socket of all.
    """

    def __init__(  # noqa: PLR0913 - settings, passed by name
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        limits: Limits,
        gate: Gate,
        peerpidfd: bool,
        on_bug: OnBug,
        only: str | None = None,
    ) -> None:
        """Hand the requests of admitted peers to ``handler``."""
        super().__init__(handler)
        self.limits = limits
        self.gate = gate
        self.peerpidfd = peerpidfd
        self.on_bug = on_bug
        self.only = only
        self.lingering = 0
        self.transports: set[asyncio.Transport] = set()

    def cut(self) -> None:
        """Drop every connection that is left, with what its peer has not read."""
        for transport in list(self.transports):
            transport.abort()

    def may_linger(self) -> bool:
        """Whether one more refused peer may stay a moment."""
        return self.lingering < self.limits.reserved

    def __call__(self) -> Connection:
        """Make the protocol of one connection."""
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            # A connection without a complete request head is closed after this time too.
            keepalive_timeout=self.limits.idle_seconds,
            tcp_keepalive=False,
            logger=_QUIET,
            access_log=None,
            max_line_size=self.limits.header_bytes,
            max_field_size=self.limits.header_bytes,
            max_headers=self.limits.headers,
            lingering_time=self.limits.linger_seconds,
            auto_decompress=False,  # a small body that unpacks to a large one is not needed
        )
