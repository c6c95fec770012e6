"""Ways to speak to the socket that are not ours: curl, raw bytes, and processes of their own."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CURL = shutil.which("curl") or "/usr/bin/curl"


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    head: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def _parse(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    return Reply(int(head.split(b" ")[1]), head.decode("latin-1"), body)


async def curl(path: Path, target: str, *arguments: str, uid: int | None = None) -> Reply:
    """What ``curl --unix-socket`` shows, run as ``uid``."""
    command = [CURL, "-sS", "-i", "--max-time", "20", "--unix-socket", str(path)]
    command += [f"http://localhost{target}", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, check=True, timeout=30, user=uid, cwd="/"
    )
    raw = done.stdout
    while raw.startswith(b"HTTP/1.1 100"):
        raw = raw.partition(b"\r\n\r\n")[2]
    return _parse(raw)


def exchange(path: Path, data: bytes, *, limit: float = 10.0, hang_up: bool = False) -> bytes:
    """Send ``data``, perhaps end sending, and return all that comes back until it is closed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(limit)
        connection.connect(str(path))
        received = bytearray()
        try:
            connection.sendall(data)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused while we were still talking: the answer is there to read
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass  # closed with our bytes unread
        return bytes(received)


async def raw(path: Path, data: bytes) -> Reply:
    """The reply to ``data``, which holds a whole request."""
    return _parse(await asyncio.to_thread(exchange, path, data))


def request(method: str, target: str, body: bytes = b"", *, headers: str = "") -> bytes:
    """The bytes of a request that asks to close afterwards."""
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}"
    length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
    return f"{head}{length}\r\n".encode() + body


_CONNECT = """
import socket, sys
up = socket.socket(fileno=int(sys.argv[1]))
made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
made.connect(sys.argv[2])
socket.send_fds(up, [b"x"], [made.fileno()])
up.recv(1)
"""


class Stranger:
    """A process that connects, hands us its connection, and ends when told."""

    def __init__(self, path: Path) -> None:
        self._ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CONNECT, str(theirs.fileno()), str(path)],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.pid = self._process.pid
        _, fds, _, _ = socket.recv_fds(self._ours, 1, 1)
        self.connection = socket.socket(fileno=fds[0])
        self.connection.settimeout(40)

    def end(self) -> None:
        """Let it end, and reap it."""
        self._ours.close()
        self._process.wait(10)

    def say(self, data: bytes) -> Reply:
        """Speak on its connection."""
        self.connection.sendall(data)
        received = bytearray()
        while chunk := self.connection.recv(65536):
            received += chunk
        self.connection.close()
        return _parse(bytes(received))
