"""What the daemon says: one event per transition, as text for people or JSON for machines.

    log = logs.get("engine")
    log.info("committed", job="resnet", step=9000, seconds=4.0)

    resnet  committed  step=9000 seconds=4.0

In the journal a line carries its priority and no time of its own, because the journal
adds one. A log that cannot be written is given up silently: a full disk or a closed
pipe below stderr must not end a daemon that guards training.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# syslog(3) priorities; systemd takes "<N>" at the start of a line for one (sd-daemon(3)).
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_RED, _YELLOW, _PLAIN = "\033[31m", "\033[33m", "\033[0m"

Event = MutableMapping[str, Any]
Logger = structlog.stdlib.BoundLogger


class _Sink:
    """Writes lines; never raises."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Past the buffers: what could not be written must not wait there to fail again at exit.
        buffer = getattr(stream, "buffer", None)
        self._raw = getattr(buffer, "raw", buffer)

    def msg(self, message: str) -> None:
        # ValueError: the stream was closed while the interpreter shuts down.
        with suppress(OSError, ValueError):
            if self._raw is None:
                self._stream.write(message + "\n")
            else:
                self._raw.write((message + "\n").encode("utf-8", "backslashreplace"))

    debug = info = warning = error = critical = msg


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or _awkward(text) else text


def _awkward(text: str) -> bool:
    return any(sign in text for sign in (" ", '"', "=")) or not text.isprintable()


def _line(event: Event) -> str:
    """``JOB  what happened  key=value ...``; the room speaks where no job does."""
    name = event.pop("job", None) or event.pop("room", None) or "spotwatchd"
    event.pop("room", None)
    what = event.pop("event")
    trace = event.pop("exception", "")
    rest = " ".join(f"{key}={_word(value)}" for key, value in event.items())
    line = "  ".join(part for part in (_word(name), _one_line(str(what)), rest) if part)
    return f"{line}\n{trace}" if trace else line


def _one_line(text: str) -> str:
    return " ".join(text.split())


class _Text:
    """The last processor for people."""

    def __init__(self, *, journal: bool, colour: bool) -> None:
        self._journal = journal
        self._colour = colour

    def __call__(self, _logger: Any, _method: str, event: Event) -> str:
        level, stamp = str(event.pop("level")), event.pop("timestamp")
        line = _line(event)
        if self._journal:
            prefix = f"<{_PRIORITIES[level]}>"
            return "\n".join(prefix + part for part in line.splitlines())
        if level in ("error", "critical"):
            line = f"{_RED}{line}{_PLAIN}" if self._colour else f"ERROR  {line}"
        elif level == "warning":
            line = f"{_YELLOW}{line}{_PLAIN}" if self._colour else f"WARNING  {line}"
        return f"{stamp}  {line}"


def _json(_logger: Any, _method: str, event: Event) -> str:
    return json.dumps({key: _plain(value) for key, value in event.items()}, ensure_ascii=False)


def _is_journal(stream: TextIO) -> bool:
    """Whether ``stream`` is the one that systemd says it reads (systemd.exec(5))."""
    try:
        info = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{info.st_dev}:{info.st_ino}"


def configure(format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002 - the setting's name
    """Decide once, at start, how everything is logged.

    Args:
        format: "text", "json", or "auto": text on a terminal and in the journal, else json.
        level: "debug", "info", "warning" or "error".
        stream: where to; standard error when None.
    """
    out = sys.stderr if stream is None else stream
    journal, terminal = _is_journal(out), out.isatty()
    text = format == "text" or (format == "auto" and (journal or terminal))
    last: Any = _Text(journal=journal, colour=terminal) if text else _json
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Sink(out),
        cache_logger_on_first_use=False,
    )
    _silence_libraries(_LEVELS[level])


def _silence_libraries(level: int) -> None:
    """Libraries that log by themselves (asyncio, aiohttp) speak through the same door."""
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(level, logging.WARNING))


class _Bridge(logging.Handler):
    """A record of the standard library's logging as one of our events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log ``record`` under its logger's name."""
        method = {10: "debug", 20: "info", 30: "warning"}.get(record.levelno, "error")
        fields: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        getattr(get(record.name), method)(record.getMessage(), **fields)


def get(name: str) -> Logger:
    """The logger of a room, e.g. ``get("watch")``. Configured later is fine."""
    return cast("Logger", structlog.get_logger(room=name))
