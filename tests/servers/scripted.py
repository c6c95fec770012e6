"""A server that plays one script for each connection: for what only raw bytes can say."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

OK = b'HTTP/1.1 200 OK\r\nETag: "tag"\r\nContent-Length: 0\r\n\r\n'

Script = Callable[["Peer"], None]


class Peer:
    """The server's end of one connection.

    Attributes:
        heads: of the requests that were read, as text.
    """

    def __init__(self, link: socket.socket, ended: threading.Event) -> None:
        self.link = link
        self.ended = ended
        self.heads: list[str] = []
        self._early = b""

    def head(self) -> str:
        """The next request's head. Raises ConnectionError at the end of the connection."""
        while b"\r\n\r\n" not in self._early:
            self._early += self._some()
        head, _, self._early = self._early.partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        return self.heads[-1]

    def request(self) -> bytes:
        """The body of the next request, its head read, too."""
        found = re.search(r"(?i)content-length: *(\d+)", self.head())
        size = int(found[1]) if found else 0
        while len(self._early) < size:
            self._early += self._some()
        body, self._early = self._early[:size], self._early[size:]
        return body

    def _some(self) -> bytes:
        data = self.link.recv(1 << 16)
        if not data:
            raise ConnectionError("the client went away")
        return data

    def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.link.sendall(data)

    def stay(self) -> None:
        """Say nothing until the test is over."""
        self.ended.wait(50)


class Scripted:
    """Plays ``scripts`` in order; the last one for all further connections.

    Attributes:
        endpoint: http(s)://127.0.0.1:PORT.
        peers: one for each connection so far.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.peers: list[Peer] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if self._tls else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in list(self.peers):
            with contextlib.suppress(OSError):
                peer.link.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(20)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="scripted", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            number = min(len(self.peers), len(self._scripts) - 1)
            peer = Peer(link, self._ended)
            self.peers.append(peer)
            self._start(lambda peer=peer, number=number: self._play(peer, number))  # type: ignore[misc]

    def _play(self, peer: Peer, number: int) -> None:
        with contextlib.suppress(OSError):
            if self._tls:
                peer.link = self._tls.wrap_socket(peer.link, server_side=True)
            self._scripts[number](peer)
        with contextlib.suppress(OSError):
            peer.link.shutdown(socket.SHUT_RDWR)
        peer.link.close()
