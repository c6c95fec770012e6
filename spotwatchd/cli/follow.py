"""An attached ``spotwatch run``: the job's story and output, until the job is over.

Three things happen at once and none may hold up another: a thread reads the stream of
events, the main thread copies output and asks for the job's document now and then, and
signals say stop or detach. The document decides when the job is over, so that an event
lost while the daemon restarted cannot leave us waiting for ever.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from spotwatchd.cli.options import OK, REFUSED, SAVED
from spotwatchd.cli.private import nobody_there
from spotwatchd.cli.tail import Tail
from spotwatchd.cli.voice import Voice
from spotwatchd.errors import DaemonUnreachable
from spotwatchd.wire import http

Document = dict[str, Any]

_LOOK_SECONDS = 2.0
_TURN_SECONDS = 0.1
_RECONNECT_SECONDS = 0.5
# The daemon sends a heartbeat every 5 s (wire/http.py).
_SILENCE_SECONDS = 15.0


def is_over(document: Document) -> bool:
    """Whether nothing more will happen to the job here."""
    return document.get("event") == "ended" or document.get("life") == "done"


def exit_status(document: Document) -> int:
    """The status to exit with, for a job's document or its ``ended`` event."""
    status = document.get("exit_status")
    if isinstance(status, int):
        return status if status >= 0 else 128 - status
    return {"finished": OK, "preempted": SAVED}.get(str(document.get("outcome")), REFUSED)


class Detached(Exception):
    """The user let go; the job goes on."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Follower:
    """Follows one job."""

    def __init__(
        self,
        socket: str,
        name: str,
        *,
        as_json: bool,
        revive: Callable[[], None] | None,
    ) -> None:
        """Set up.

        Args:
            socket: of the daemon.
            name: of the job.
            as_json: events to stdout and no output, instead of sentences to stderr.
            revive: starts our private daemon again when it has died; None when it is not ours.
        """
        self._socket = socket
        self._name = name
        self._as_json = as_json
        self._voice = Voice(name, as_json=as_json)
        self._revive = revive
        self._events: queue.SimpleQueue[Document] = queue.SimpleQueue()
        self._over = threading.Event()
        self._lost_since: float | None = None
        self._told_lost = False
        self._interrupts = 0
        self._told_stop = False
        self._stop_sent = False
        self._hung_up = False

    def follow(self, document: Document) -> int:
        """Until the job is over. Returns its exit status.

        Args:
            document: of the job, as registered.

        Raises:
            Detached: Ctrl-C a second time, or the terminal is gone.
        """
        skip = document.get("output") if document.get("attempt") else None
        tail = Tail(sys.stdout.buffer, from_end_of=skip)
        old = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        threading.Thread(target=self._listen, name="events", daemon=True).start()
        try:
            return exit_status(self._watch(document, tail))
        finally:
            self._over.set()
            tail.close()
            for number, handler in old.items():
                signal.signal(number, handler)

    # -- the main thread

    def _watch(self, document: Document, tail: Tail) -> Document:
        looked = 0.0
        while True:
            event = self._next_event()
            if event is not None:
                self._voice.show(event)
            if event is not None or time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                document = self._look() or document
            if event is not None and is_over(event):
                document = event
            self._copy(tail, document)
            if is_over(document):
                self._show_rest()
                return document
            self._obey_signals()

    def _next_event(self) -> Document | None:
        try:
            return self._events.get(timeout=_TURN_SECONDS)
        except queue.Empty:
            return None

    def _show_rest(self) -> None:
        """What was said before the end and is still in the queue."""
        with suppress(queue.Empty):
            while True:
                self._voice.show(self._events.get_nowait())

    def _look(self) -> Document | None:
        try:
            found: Document = http.request(self._socket, "GET", f"/v1/jobs/{self._name}")
        except DaemonUnreachable as error:
            self._lost(error)
            return None
        self._lost_since = None
        if self._told_lost:
            self._told_lost = False
            self._voice.say("spotwatchd is back")
        return found

    def _lost(self, error: DaemonUnreachable) -> None:
        now = time.monotonic()
        if self._lost_since is None:
            self._lost_since = now
        elif not self._told_lost:
            self._told_lost = True
            self._voice.say("spotwatchd does not answer; the job goes on, waiting for it")
        elif self._revive is not None and nobody_there(error):
            self._revive()

    def _copy(self, tail: Tail, document: Document) -> None:
        if self._as_json:
            return
        before = tail.refused
        tail.follow(document.get("output"))
        tail.copy()
        if tail.refused != before:
            self._voice.say(f"its output is in {tail.refused}, which you may not read")

    # -- signals: handlers only take note, the loop acts

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            self._interrupts += 1

    def _obey_signals(self) -> None:
        if self._hung_up:
            raise Detached(128 + signal.SIGHUP)
        if self._interrupts > 1:
            self._voice.say(f"goes on without this terminal; see: spotwatch status {self._name}")
            raise Detached(128 + signal.SIGINT)
        if self._interrupts == 1 and not self._stop_sent:
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        if not self._told_stop:
            self._told_stop = True
            self._voice.say(
                "asked to save and stop; Ctrl-C again leaves it running and ends only this"
            )
        # With the daemon away, the next turn tries again.
        with suppress(DaemonUnreachable):
            http.request(self._socket, "POST", f"/v1/jobs/{self._name}/stop")
            self._stop_sent = True

    # -- the thread of events

    def _listen(self) -> None:
        target = f"/v1/jobs/{self._name}/events"
        while not self._over.is_set():
            # What is wrong is found and told by the main thread, which asks for the document.
            with suppress(DaemonUnreachable, http.ProblemError, ValueError):
                for event in http.stream(self._socket, target, idle_timeout=_SILENCE_SECONDS):
                    self._events.put(event)
            self._over.wait(_RECONNECT_SECONDS)


_SIGNALS = (signal.SIGINT, signal.SIGHUP)
