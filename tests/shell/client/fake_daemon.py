"""A real HTTP server on a Unix socket that says what the daemon would, with faults on demand."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from spotwatchd.wire.board import BoardWriter


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    daemon: FakeDaemon


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.server.daemon.answer(self.path, body)
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.server.daemon.drip:
            self._drip(payload)
        else:
            self.wfile.write(payload)

    def _drip(self, payload: bytes) -> None:
        for byte in payload:
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return
            time.sleep(self.server.daemon.drip)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        pass


class FakeDaemon:
    """Answers registrations with a real board, and remembers every word.

    Attributes:
        words: (path, body) of each request, in order.
        resume: what POST processes adds to its answer.
        restoring: answer "restoring" this many times first.
        knows: False: jobs are unknown (404) until they are posted.
        drip: seconds between the bytes of an answer.
    """

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "s.sock"
        self.board_path = directory / "board"
        self.board = BoardWriter(self.board_path)
        self.words: list[tuple[str, dict[str, Any]]] = []
        self.resume: dict[str, Any] = {}
        self.restoring = 0
        self.registered = False
        self.drip = 0.0
        self._server: _Server | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._server = _Server(str(self.socket), _Handler)
        self._server.daemon = self
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Die, and forget who was registered, as a restart would."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        self.registered = False

    def close(self) -> None:
        if self._server is not None:
            self.stop()
        self.board.close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.words.append((path, body))
        word = path.rsplit("/", 1)[1]
        if word == "jobs":
            return 201, {}
        if word == "processes":
            self.registered = True
            return 200, self._facts()
        if not self.registered:
            return 404, {"title": "no such process"}
        if body.get("ask"):
            self.board.withdraw(body["ask"])  # answered
        return 200, {}

    def _facts(self) -> dict[str, Any]:
        self.restoring, left = max(0, self.restoring - 1), self.restoring
        facts = {
            "board": str(self.board_path),
            "attempt": 1,
            "resume_from": None,
            "resume_step": None,
            "cause": "first",
            "run_id": "run-1",
            "state": "ready",
        }
        return facts | ({"state": "restoring"} if left else self.resume)

    def said(self, word: str) -> list[dict[str, Any]]:
        return [body for path, body in list(self.words) if path.rsplit("/", 1)[1] == word]


@contextmanager
def running(directory: Path) -> Iterator[FakeDaemon]:
    """A daemon that answers, in ``directory``."""
    daemon = FakeDaemon(directory)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.close()


@contextmanager
def deaf_listener(path: Path, backlog: int = 16) -> Iterator[socket.socket]:
    """A socket that listens and never accepts: what a stopped (SIGSTOP) daemon looks like."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        yield listener
