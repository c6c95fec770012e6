"""JSON over HTTP over a Unix socket, with the standard library only.

Used by the client in training processes, by the command line and by the
replicator. Every call has a time limit; nothing here retries.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

from spotwatchd.errors import DaemonUnreachable, SpotwatchError


class ProblemError(SpotwatchError):
    """The daemon answered with problem+json (RFC 9457).

    Attributes:
        status: the HTTP status code.
        problem: the whole document.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(
            str(problem.get("detail") or problem.get("title") or f"HTTP {status}"),
            where=str(problem.get("where", "")),
            remedy=str(problem.get("remedy", "")),
        )
        self.status = status
        self.problem = problem


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        self.sock = connection


def _unreachable(path: str, error: Exception) -> DaemonUnreachable:
    return DaemonUnreachable(
        f"no answer from spotwatchd: {error or type(error).__name__}",
        where=path,
        remedy="is it running? systemctl status spotwatchd, or pass --socket PATH",
    )


def _raise_problem(status: int, raw: bytes) -> None:
    try:
        problem = json.loads(raw)
    except ValueError:
        problem = {"title": raw.decode("utf-8", "replace")[:200]}
    raise ProblemError(status, problem if isinstance(problem, dict) else {"title": str(problem)})


def request(path: str, method: str, target: str, body: Any = None, *, timeout: float = 5.0) -> Any:
    """Make one call and return the decoded JSON answer (None for an empty one).

    Args:
        path: the Unix socket.
        method: GET, POST or DELETE.
        target: e.g. ``/v1/status``.
        body: sent as JSON when not None.
        timeout: seconds for each socket operation.

    Raises:
        DaemonUnreachable: nobody there, or no answer in time.
        ProblemError: an answer of 400 or above.
    """
    connection = _UnixConnection(path, timeout)
    try:
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if payload is not None else {}
        connection.request(method, target, body=payload, headers=headers)
        response = connection.getresponse()
        raw = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(path, error) from error
    finally:
        connection.close()
    if response.status >= 400:
        _raise_problem(response.status, raw)
    return json.loads(raw) if raw else None


def stream(
    path: str,
    target: str,
    *,
    idle_timeout: float,
    on_open: Callable[[], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the objects of a newline-delimited JSON stream until the daemon ends it.

    Args:
        path: the Unix socket.
        target: e.g. ``/v1/jobs/resnet/events``.
        idle_timeout: seconds without a line after which the daemon counts as gone
            (it sends an empty line as a heartbeat every 5 s).
        on_open: called once the daemon has accepted, before its first line.

    Raises:
        DaemonUnreachable: nobody there, broken off, or silent for too long.
        ProblemError: an answer of 400 or above.
    """
    connection = _UnixConnection(path, idle_timeout)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        if response.status >= 400:
            _raise_problem(response.status, response.read())
        if on_open is not None:
            on_open()
        while True:
            line = response.readline()
            if not line:
                return
            if line.strip():
                yield json.loads(line)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(path, error) from error
    finally:
        connection.close()
