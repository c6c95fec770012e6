"""The server on the Unix socket: puts the parts together, starts and closes them."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from spotwatchd.control import listen, peers
from spotwatchd.control.connections import Door, Gate, OnBug
from spotwatchd.control.desk import Desk
from spotwatchd.control.dispatch import Dispatch
from spotwatchd.control.doors import Doors
from spotwatchd.control.limits import Limits
from spotwatchd.control.routes import Route
from spotwatchd.control.table import ROUTES
from spotwatchd.errors import ConfigError


def _to_the_loop(error: BaseException) -> None:
    """Report a defect where asyncio reports its own."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": "defect met by a request on the socket", "exception": error}
    )


class ControlServer:
    """HTTP and JSON on a Unix socket, answered by a ``Desk``.

    Attributes:
        path: of the socket, None with a passed one.
        doors: the jobs' own sockets; they may be opened before ``start``.
    """

    def __init__(  # noqa: PLR0913 - settings, passed by name
        self,
        desk: Desk,
        *,
        path: Path | None = None,
        fd: int | None = None,
        mode: int = 0o666,
        limits: Limits | None = None,
        on_bug: OnBug = _to_the_loop,
        peerpidfd: bool | None = None,
        routes: Sequence[Route] = ROUTES,
    ) -> None:
        """Prepare; nothing is opened before ``start``.

        Args:
            desk: answers the routes.
            path: where to listen; or
            fd: a listening socket passed by systemd (LISTEN_FDS).
            mode: permission bits of the socket: 0o666 for a daemon that serves all users
                (credentials decide what they may do), 0o600 for a private one.
            limits: how much callers may take.
            on_bug: is told of every unexpected exception; the server goes on.
            peerpidfd: False to identify processes without SO_PEERPIDFD, as on Linux before
                6.5; None to see what this kernel has.
            routes: the table.

        Raises:
            ConfigError: neither or both of ``path`` and ``fd``.
        """
        if (path is None) == (fd is None):
            raise ConfigError(
                "the socket needs a path or a passed file descriptor, and not both",
                where="socket",
                remedy="set one of them",
            )
        self.path = path
        self._fd = fd
        self._mode = mode
        self._limits = limits or Limits()
        self._on_bug = on_bug
        self._peerpidfd = peers.supports_peerpidfd() if peerpidfd is None else peerpidfd
        self._dispatch = Dispatch(desk, routes, limits=self._limits, on_bug=on_bug)
        self._gate = Gate(
            self._limits,
            total=_affordable(self._limits),
            privileged=frozenset({0, os.geteuid()}),
        )
        self._listener: listen.Listener | None = None
        self._server: asyncio.Server | None = None
        self._door: Door | None = None
        self.doors = Doors(self._make_door, backlog=self._limits.backlog, on_bug=on_bug)

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._gate.open

    @property
    def streams(self) -> int:
        """Open event streams."""
        return len(self._dispatch.streams)

    async def start(self) -> None:
        """Listen and serve. Raises ConfigError as ``listen.bind`` and ``listen.adopt`` do."""
        self._listener = await asyncio.to_thread(self._listen)
        self._door = self._make_door()
        self._server = await asyncio.get_running_loop().create_unix_server(
            self._door, sock=self._listener.socket, backlog=self._limits.backlog
        )
        self._dispatch.streams.start()

    def _make_door(self, only: str | None = None) -> Door:
        return Door(
            self._dispatch.handle,
            limits=self._limits,
            gate=self._gate,
            peerpidfd=self._peerpidfd,
            on_bug=self._on_bug,
            only=only,
        )

    def _listen(self) -> listen.Listener:
        if self._fd is not None:
            return listen.adopt(self._fd)
        assert self.path is not None  # noqa: S101 - checked by __init__
        return listen.bind(self.path, mode=self._mode, backlog=self._limits.backlog)

    async def close(self) -> None:
        """Stop listening, end the streams, give requests a moment, cut what remains.

        Takes at most about three times ``Limits.close_seconds``. May be called twice, and
        before ``start``.
        """
        server, self._server = self._server, None
        door, self._door = self._door, None
        listener, self._listener = self._listener, None
        if server is not None:
            server.close()
        await self._dispatch.streams.close()
        await self.doors.close_all()
        if door is not None:
            door.pre_shutdown()
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * self._limits.close_seconds):
                    await door.shutdown(self._limits.close_seconds)
            door.cut()
            # asyncio tells a protocol of its loss in the next turn of the loop.
            await asyncio.sleep(0)
        if listener is not None:
            await asyncio.to_thread(listener.close)


def _affordable(limits: Limits) -> int:
    """Connections that the process has files for: refusing one is better than failing to accept."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.connections
    return max(limits.reserved + 1, min(limits.connections, soft - limits.reserved_files))
