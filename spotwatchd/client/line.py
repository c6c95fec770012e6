"""One question to the daemon, one answer, 0.2 s in all.

``wire.http`` limits each socket operation; a daemon that answers one byte at a time
would hold training for minutes. Here one deadline covers connect, send and answer.
It also does without ``http.client``, whose import loads ssl and the mail parser.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from spotwatchd.errors import DaemonUnreachable

# Longer than any healthy answer (a few ms), short against the steps of a training that is
# worth saving: a daemon that hangs costs this much per checkpoint, and no more.
LIMIT = 0.2
_MAX_ANSWER = 1 << 20
_BACKLOG_PAUSE = 0.01


def within(seconds: float = LIMIT) -> float:
    """The moment (``time.monotonic``) at which ``seconds`` from now are over."""
    return time.monotonic() + seconds


def call(path: str, method: str, target: str, body: Any, *, until: float) -> tuple[int, Any]:
    """Ask, and return (HTTP status, decoded JSON or None).

    Args:
        path: the Unix socket.
        method: GET or POST.
        target: e.g. ``/v1/jobs/resnet/processes``.
        body: sent as JSON when not None.
        until: ``time.monotonic`` moment by which this returns or raises.

    Raises:
        DaemonUnreachable: nobody there, no answer in time, or not an HTTP answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            _connect(connection, path, until)
            connection.settimeout(_left(until))
            connection.sendall(_request(method, target, body))
            return _parse(_receive(connection, until))
    except (OSError, ValueError) as error:
        raise DaemonUnreachable(
            f"no answer from spotwatchd: {error or type(error).__name__}",
            where=path,
            remedy="is it running? systemctl status spotwatchd",
        ) from error


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _connect(connection: socket.socket, path: str, until: float) -> None:
    while True:
        connection.settimeout(_left(until))
        try:
            connection.connect(path)
        except BlockingIOError:
            # The backlog is full: many processes at once, or a daemon that does not accept.
            time.sleep(min(_BACKLOG_PAUSE, _left(until)))
        else:
            return


def _request(method: str, target: str, body: Any) -> bytes:
    payload = b"" if body is None else json.dumps(body).encode()
    # 1.0: the answer is never chunked and ends with the connection.
    head = f"{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(payload)}\r\n"
    if payload:
        head += "Content-Type: application/json\r\n"
    return head.encode() + b"\r\n" + payload


def _receive(connection: socket.socket, until: float) -> bytes:
    answer = b""
    while len(answer) < _MAX_ANSWER and not _complete(answer):
        connection.settimeout(_left(until))
        piece = connection.recv(65536)
        if not piece:
            break
        answer += piece
    return answer


def _complete(answer: bytes) -> bool:
    head, gap, body = answer.partition(b"\r\n\r\n")
    if not gap:
        return False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return len(body) >= int(value)
    return False


def _parse(answer: bytes) -> tuple[int, Any]:
    head, gap, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if not gap or len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise ValueError("not an HTTP answer")
    return int(words[1]), json.loads(body) if body.strip() else None
