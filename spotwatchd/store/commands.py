"""What the daemon tells a replicator, checked; and what waits to be done."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from spotwatchd.core.fence import OUTCOMES
from spotwatchd.core.fields import Fields
from spotwatchd.core.words import Seal
from spotwatchd.store.local_journal import parse_seal

WORDS = (
    *("take", "watch", "prepare", "upload", "commit", "cancel", "release"),
    *("weight", "pace", "quit"),
)
_CANCELLABLE = ("upload", "commit", "prepare")


@dataclass(frozen=True)
class Command:
    """One command. Fields that its word does not have keep their defaults.

    Attributes:
        rate: of a pace: bytes a second, None for no limit.
        env: of a prepare: the environment of the job's program.
        here: of a prepare: the job was registered on this machine.
        fresh: of a watch: the job never ran, so the store may not know it.
        cancelled: set when nobody wants it any more.
    """

    do: str
    no: int = 0
    seal: Seal | None = None
    cause: str = ""
    deadline: float | None = None
    interruption: dict[str, Any] | None = None
    outcome: str = ""
    crashes: int = 0
    level: str = ""
    rate: float | None = None
    env: dict[str, str] = field(default_factory=dict)
    here: bool = False
    fresh: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)


def parse_command(message: Any) -> Command:
    """Read a command. Raises Damaged naming the field."""
    fields = Fields(message, "command")
    do = fields.word("do", WORDS)
    return Command(
        do=do,
        no=fields.number("no", 0),
        seal=parse_seal(fields.child("seal")) if do in ("upload", "commit") else None,
        cause=fields.text("cause", "") if do in ("upload", "commit") else "",
        deadline=_number(fields, "deadline", "seconds or null"),
        interruption=fields.mapping_or_none("interruption"),
        outcome=fields.word("outcome", OUTCOMES) if do == "release" else "",
        crashes=fields.number("crashes", 0),
        level=fields.word("level", ("background", "urgent")) if do == "weight" else "",
        rate=_rate(fields) if do == "pace" else None,
        env=_environment(fields) if do == "prepare" else {},
        here=fields.flag("here") if do == "prepare" else False,
        fresh=fields.flag("fresh") if do == "watch" else False,
    )


def _environment(fields: Fields) -> dict[str, str]:
    given = fields.child("env").raw
    if not all(isinstance(value, str) for value in given.values()):
        raise fields.bad("env", "an object of strings")
    return given


def _number(fields: Fields, name: str, wanted: str) -> float | None:
    value = fields.raw.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fields.bad(name, wanted)
    return float(value)


def _rate(fields: Fields) -> float | None:
    rate = _number(fields, "bytes_per_second", "a number or null")
    if rate is not None and not 0 <= rate < float("inf"):
        raise fields.bad("bytes_per_second", "0 or more, or null")
    return rate


class Waiting:
    """The commands to be done, in order, and the one being done. Any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Command] = deque()
        self._current: Command | None = None

    def put(self, command: Command) -> None:
        """At the end; a release ends the takes and preparations before it, anything a watch."""
        with self._changed:
            self._cancel(lambda other: other.do == "watch")
            if command.do == "release":
                self._cancel(lambda other: other.do in ("take", "prepare"))
            if command.do == "prepare" and self._is_known(command):
                return  # said again after a reconnect
            self._queue.append(command)
            self._changed.notify_all()

    def _is_known(self, command: Command) -> bool:
        known = (*self._queue, *([self._current] if self._current else []))
        return any((other.do, other.no) == (command.do, command.no) for other in known)

    def cancel(self, no: int) -> None:
        """Nobody wants number ``no`` any more."""
        with self._changed:
            self._cancel(lambda other: other.no == no and other.do in _CANCELLABLE)

    def _cancel(self, which: Any) -> None:
        for command in (*self._queue, *([self._current] if self._current else [])):
            if which(command):
                command.cancelled.set()

    def next(self, seconds: float) -> Command | None:
        """The next one, now the current one; None when there is none for so long."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._queue), seconds)
            self._current = self._queue.popleft() if self._queue else None
            return self._current

    def done(self) -> None:
        """The current one is done."""
        with self._changed:
            self._current = None

    def is_urgent(self) -> bool:
        """Whether a checkpoint is on its way under a deadline."""
        with self._changed:
            return self._current is not None and self._current.deadline is not None

    @property
    def idle(self) -> bool:
        """Nothing is done, nothing waits."""
        with self._changed:
            return self._current is None and not self._queue
