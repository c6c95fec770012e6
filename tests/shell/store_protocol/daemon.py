"""A stand-in for the daemon's end of the socket: a real HTTP server on a Unix socket.

It speaks the two replicator routes of docs/architecture.md and can go away and come back.
"""

from __future__ import annotations

import http.server
import json
import queue
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    # A replicator that was killed leaves its stream open here until the next heartbeat.
    block_on_close = False
    request_queue_size = 16

    def __init__(self, path: str, daemon: Daemon) -> None:
        self.daemon = daemon
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that was killed is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        commands = self.server.daemon.connect()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        try:
            while (line := self._line(commands)) is not None:
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
        except OSError:
            pass
        self.close_connection = True

    @staticmethod
    def _line(commands: queue.Queue[Message | None]) -> bytes | None:
        try:
            command = commands.get(timeout=1.0)
        except queue.Empty:
            return b"\n"
        return None if command is None else json.dumps(command).encode() + b"\n"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.daemon.note(json.loads(self.rfile.read(length)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


class Daemon:
    """Knows one job. Every event is kept in ``events``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Message] = []
        self._changed = threading.Condition()
        self._commands: queue.Queue[Message | None] | None = None
        self._server: _Server | None = None
        self._no = 0
        self.start()

    def start(self) -> None:
        """Be there."""
        self.path.unlink(missing_ok=True)
        self._server = _Server(str(self.path), self)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Be away: connections end, new ones are refused."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self.path.unlink(missing_ok=True)
        self.hang_up()

    def hang_up(self) -> None:
        """End the connection: commands wait for the next one."""
        with self._changed:
            if self._commands is not None:
                self._commands.put(None)
            self._commands = None

    def connect(self) -> queue.Queue[Message | None]:
        """A replicator reads commands from now on."""
        with self._changed:
            self._commands = queue.Queue()
            self._changed.notify_all()
            return self._commands

    def note(self, event: Message) -> None:
        """A replicator said something."""
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def tell(self, do: str, **fields: Any) -> int:
        """Send a command once a replicator is connected; returns its number."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._commands is not None, 20), "no replicator"
            assert self._commands is not None
            self._no += 1
            self._commands.put({"do": do, "no": self._no, **fields})
            return self._no

    def wait(
        self, *words: str, no: int | None = None, since: int = 0, seconds: float = 30.0
    ) -> Message:
        """The first event with one of ``words`` (and number), when it is there."""

        def found() -> Message | None:
            return next(
                (
                    event
                    for event in self.events[since:]
                    if event["event"] in words and no in (None, event.get("no"))
                ),
                None,
            )

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, seconds)
            event = found()
            assert event is not None, f"no {words} ({no}) among {self.events[since:]}"
            return event

    def ask(self, do: str, *answers: str, seconds: float = 30.0, **fields: Any) -> Message:
        """Send a command and wait for one of its answers."""
        no = self.tell(do, **fields)
        return self.wait(*answers, no=no, seconds=seconds)

    def said(self, word: str) -> list[Message]:
        """All events with this word so far."""
        with self._changed:
            return [event for event in self.events if event["event"] == word]


def until(condition: Callable[[], bool], seconds: float = 20.0, what: str = "") -> None:
    """Wait for ``condition``, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)
