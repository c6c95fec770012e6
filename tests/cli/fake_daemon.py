"""A stand-in for the daemon at the other end of the socket, with faults on demand.

A real HTTP server on a real Unix socket. It keeps documents that a test sets and
remembers what it was asked; ``stop`` and ``start`` are a daemon that dies and returns.
"""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Document = dict[str, Any]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, fake: FakeDaemon) -> None:
        self.fake = fake
        super().__init__(str(path), _Handler)

    def handle_error(self, _request: Any, _client: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        return

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else None

    def _answer(self, status: int, document: Any) -> None:
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        fake = self.server.fake
        fake.calls.append(("GET", self.path, None))
        if self.path.endswith("/events"):
            self._stream(fake)
        elif self.path in fake.answers:
            self._answer(*fake.answers[self.path])
        else:
            self._answer(404, {"title": "no such thing", "detail": f"nothing at {self.path}"})

    def do_POST(self) -> None:
        fake = self.server.fake
        body = self._body()
        fake.calls.append(("POST", self.path, body))
        fake.on_post(self.path)
        self._answer(*fake.answers.get(self.path, (202, {})))

    def _stream(self, fake: FakeDaemon) -> None:
        self.send_response(200)
        self.end_headers()
        fake.listeners += 1
        mine = fake.generation
        sent = len(fake.events)
        while mine == fake.generation:
            while sent < len(fake.events):
                self.wfile.write(json.dumps(fake.events[sent]).encode() + b"\n")
                sent += 1
            self.wfile.flush()
            time.sleep(0.01)


class FakeDaemon:
    """Answers on ``path``. ``answers``: target -> (status, document)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, tuple[int, Any]] = {}
        self.calls: list[tuple[str, str, Any]] = []
        self.events: list[Document] = []
        self.listeners = 0
        self.generation = 0
        self.on_post: Callable[[str], None] = lambda _target: None
        self._server: _Server | None = None

    def start(self) -> None:
        """Listen."""
        self._server = _Server(self.path, self)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Die: streams break, the socket stays and refuses."""
        self.generation += 1
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def restart(self) -> None:
        """Return."""
        self.path.unlink()
        self.start()

    def posted(self, target: str) -> list[Any]:
        """Bodies posted to ``target``."""
        return [body for method, path, body in self.calls if (method, path) == ("POST", target)]


def job_document(name: str, **changes: Any) -> Document:
    """A job's document as the daemon gives it."""
    document: Document = {
        "name": name,
        "state": "running",
        "life": "running",
        "outcome": None,
        "exit_status": None,
        "attempt": 0,
        "step": None,
        "sealed_step": None,
        "committed_step": None,
        "committed_at": None,
        "next_save_seconds": None,
        "processes": 0,
        "store": "file:///store",
        "checkpoint_dir": "/ckpt",
        "output": None,
        "reason": None,
        "run_id": "r1",
    }
    return {**document, **changes}
