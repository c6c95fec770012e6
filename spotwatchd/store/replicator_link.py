"""The replicator's two connections to the daemon: commands come in, events go out.

The daemon may be away at any time and for any time. Events wait (the oldest go first when
there are too many: ``hello`` tells all that still matters), and after each connect ``hello``
is the first thing said, so that a daemon that was started anew knows where things stand.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from spotwatchd.errors import DaemonUnreachable
from spotwatchd.store.swap import boottime
from spotwatchd.wire.http import ProblemError, request, stream

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0
# The daemon sends an empty line every 5 s; three missing ones are no accident.
_SILENCE = 15.0
_EVENTS_KEPT = 1000
# Old news of these would only crowd out what matters.
_FLEETING = ("progress", "growing")

Message = dict[str, Any]


class Link:
    """Two threads. ``receive`` and ``hello`` are called in them."""

    def __init__(
        self,
        socket: str,
        job: str,
        hello: Callable[[], Message],
        receive: Callable[[Message], None],
        log: Callable[[str], None],
    ) -> None:
        self._socket = socket
        self._target = f"/v1/jobs/{job}/replicator"
        self._hello = hello
        self._receive = receive
        self._log = log
        self._news = threading.Condition()
        self._events: deque[Message] = deque(maxlen=_EVENTS_KEPT)
        self._hello_due = False
        self._sending = False
        self._pause = FIRST_PAUSE
        self._stopped = threading.Event()
        self.connected = False
        self.changed_at = boottime()

    def start(self) -> None:
        """Begin to connect."""
        for name, body in (("commands", self._read_forever), ("events", self._send_forever)):
            threading.Thread(target=body, name=name, daemon=True).start()

    def stop(self) -> None:
        """Connect no more."""
        self._stopped.set()
        with self._news:
            self._news.notify_all()

    def send(self, event: Message) -> None:
        """Say ``event`` as soon as the daemon listens; how far things are, now or never."""
        with self._news:
            if event["event"] in _FLEETING and not self.connected:
                return
            self._events.append(event)
            self._news.notify_all()

    def greet(self) -> None:
        """Say hello again: what it tells has changed."""
        with self._news:
            self._hello_due = True
            self._news.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until all is said, at most so long, and only while somebody listens."""
        with self._news:
            self._news.wait_for(lambda: self._is_silent() or not self.connected, seconds)

    def _is_silent(self) -> bool:
        return not self._events and not self._hello_due and not self._sending

    def away_for(self) -> float:
        """Seconds since a daemon was last connected (0 while one is)."""
        return 0.0 if self.connected else boottime() - self.changed_at

    # ------------------------------------------------------------------ commands

    def _read_forever(self) -> None:
        while not self._stopped.is_set():
            try:
                self._read()
            except (DaemonUnreachable, ProblemError, ValueError):
                pass
            finally:
                self._set_connected(connected=False)
            self._stopped.wait(self._pause)
            self._pause = min(LONGEST_PAUSE, self._pause * 2)

    def _read(self) -> None:
        opened = lambda: self._set_connected(connected=True)  # noqa: E731
        target = f"{self._target}/commands"
        for command in stream(self._socket, target, idle_timeout=_SILENCE, on_open=opened):
            self._receive(command)

    def _set_connected(self, *, connected: bool) -> None:
        with self._news:
            if connected:
                self._pause = FIRST_PAUSE
                self._hello_due = True
            if connected != self.connected:
                self.changed_at = boottime()
                self._log("the daemon is there" if connected else "the daemon is away")
            self.connected = connected
            self._news.notify_all()

    # ------------------------------------------------------------------ events

    def _send_forever(self) -> None:
        while not self._stopped.is_set():
            event = self._next()
            if event is not None and not self._post(event):
                self._put_back(event)
                self._stopped.wait(FIRST_PAUSE)
            with self._news:
                self._sending = False
                self._news.notify_all()

    def _next(self) -> Message | None:
        with self._news:
            self._news.wait_for(
                lambda: (
                    self._stopped.is_set()
                    or (self.connected and bool(self._hello_due or self._events))
                )
            )
            if self._stopped.is_set():
                return None
            self._sending = True
            if not self._hello_due:
                return self._events.popleft()
            self._hello_due = False
        return {"event": "hello", **self._hello()}

    def _put_back(self, event: Message) -> None:
        with self._news:
            if event["event"] == "hello":
                self._hello_due = True
            elif len(self._events) < _EVENTS_KEPT:
                self._events.appendleft(event)

    def _post(self, event: Message) -> bool:
        """Say it. True when it need not be said again."""
        try:
            request(self._socket, "POST", f"{self._target}/events", event)
        except DaemonUnreachable:
            return False
        except ProblemError as error:
            if error.status >= 500:
                return False
            self._log(f"the daemon refused {event['event']}: {error.what}")
        except ValueError:
            self._log(f"the daemon's answer to {event['event']} is not JSON")
        return True
