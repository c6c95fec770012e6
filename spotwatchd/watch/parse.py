"""What the metadata service says, as values. Pure: bytes in, values or Garbage out.

Whatever the bytes are, nothing but Garbage is raised. Its text names what was wrong and quotes
at most a few dozen characters, in ASCII, so that it can go into a log line as it is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from spotwatchd.core.words import MachineAction

_QUOTE = 40
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# RFC 3339, which the spot documents use: 2017-09-18T08:22:00Z.
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)",
    re.ASCII,
)

# "21 Jan 2019 09:00:43 GMT" of scheduled events, and the same with "Mon, " before it, which is
# the Date header of RFC 9110. strptime would do, but %b follows the process's locale.
_GMT = re.compile(
    r"(?:[A-Z][a-z]{2}, )?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT",
    re.ASCII,
)

# Target lifecycle states are Detached, InService, Standby, Terminated, Warmed:Hibernated ...
_STATE = re.compile(r"[A-Za-z]{2,40}(?::[A-Za-z]{2,40}){0,2}", re.ASCII)

# Instance ids, types, zones, life cycles and event ids: one short word.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)

_SPOT_ACTIONS = {
    "terminate": MachineAction.TERMINATE,
    "stop": MachineAction.STOP,
    "hibernate": MachineAction.HIBERNATE,
}

# EC2 user guide, "Types of scheduled events". A retired instance with an EBS root is stopped
# and one without is terminated; the guest cannot tell them apart, and for the second the disk
# is gone, so both count as the worse one.
_EVENT_ACTIONS = {
    "instance-stop": MachineAction.STOP,
    "instance-retirement": MachineAction.TERMINATE,
    "instance-reboot": MachineAction.REBOOT,
    "system-reboot": MachineAction.REBOOT,
}


class Garbage(ValueError):
    """An answer that does not mean anything. Its text says what was wrong."""


@dataclass(frozen=True)
class SpotAction:
    """spot/instance-action.

    Attributes:
        action: what will happen; terminate when the word is not a known one.
        told: the time as written.
        when: the same as Unix seconds.
        unknown: the word that is not a known action, quoted, else "".
    """

    action: MachineAction
    told: str
    when: float
    unknown: str = ""


@dataclass(frozen=True)
class ScheduledEvent:
    """One entry of events/maintenance/scheduled that is active.

    Attributes:
        event_id: EC2's identity of it.
        code: instance-stop, instance-retirement, instance-reboot, system-reboot ...
        action: what happens to the machine; None: it stays (system-maintenance, unknown codes).
        told: NotBefore as written.
        when: the same as Unix seconds.
    """

    event_id: str
    code: str
    action: MachineAction | None
    told: str
    when: float


def quote(value: object) -> str:
    """``value`` for an error text: ASCII, at most a few dozen characters."""
    text = ascii(value)
    return text if len(text) <= _QUOTE else text[:_QUOTE] + "..."


def instance_action(body: bytes) -> SpotAction:
    """The spot notice. Raises Garbage."""
    document = _object(body)
    told, when = _time_field(document, "time")
    word = document.get("action")
    if not isinstance(word, str):
        raise Garbage(f"action is {quote(word)}, not a text")
    known = _SPOT_ACTIONS.get(word)
    if known is None:
        return SpotAction(MachineAction.TERMINATE, told, when, unknown=quote(word))
    return SpotAction(known, told, when)


def rebalance(body: bytes) -> str:
    """The noticeTime of a rebalance recommendation, as written. Raises Garbage."""
    told, _ = _time_field(_object(body), "noticeTime")
    return told


def scheduled_events(body: bytes) -> tuple[list[ScheduledEvent], str]:
    """The active events, earliest first, and what was wrong with the other entries ("": nothing).

    One bad entry hides none of the others. Raises Garbage when the whole is no list.
    """
    document = _json(body)
    if not isinstance(document, list):
        raise Garbage(f"scheduled events are {quote(document)}, not a list")
    events, wrong = [], ""
    for entry in document:
        try:
            event = _event(entry)
        except Garbage as error:
            wrong = str(error)
            continue
        if event is not None:
            events.append(event)
    return sorted(events, key=lambda event: event.when), wrong


def lifecycle_state(body: bytes) -> str:
    """The Auto Scaling target state, e.g. InService or Warmed:Stopped. Raises Garbage."""
    return _match(_STATE, _text(body).strip(), "target lifecycle state")


def word(body: bytes) -> str:
    """An identity value such as an instance id. Raises Garbage."""
    return _match(_WORD, _text(body).strip(), "value")


def token(body: bytes) -> str:
    """A session token, fit for a header. Raises Garbage."""
    return _match(re.compile(r"[\x21-\x7e]{1,1024}"), _text(body).strip(), "token")


def rfc3339(text: str) -> float:
    """Unix seconds of a time such as 2017-09-18T08:22:00Z. Raises Garbage."""
    if not _RFC3339.fullmatch(text):
        raise Garbage(f"{quote(text)} is not a time")
    try:
        # Fractions of nine digits are cut by hand: fromisoformat takes six at most.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
    except (ValueError, OverflowError) as error:
        raise Garbage(f"{quote(text)} is not a time") from error


def gmt(text: str) -> float:
    """Unix seconds of a Date header or a NotBefore. Raises Garbage."""
    match = _GMT.fullmatch(text)
    if not match or match[2] not in _MONTHS:
        raise Garbage(f"{quote(text)} is not a time")
    day, month, year, hour, minute, second = match.groups()
    try:
        return datetime(
            int(year),
            _MONTHS.index(month) + 1,
            int(day),
            int(hour),
            int(minute),
            int(second),
            tzinfo=timezone.utc,
        ).timestamp()
    except ValueError as error:
        raise Garbage(f"{quote(text)} is not a time") from error


def _event(entry: Any) -> ScheduledEvent | None:
    if not isinstance(entry, dict):
        raise Garbage(f"a scheduled event is {quote(entry)}, not an object")
    if entry.get("State") != "active":
        return None
    told, code = entry.get("NotBefore"), entry.get("Code")
    if not isinstance(told, str) or not isinstance(code, str):
        raise Garbage("a scheduled event has no Code or no NotBefore")
    _match(_WORD, code, "code of a scheduled event")
    event_id = entry.get("EventId")
    if not isinstance(event_id, str) or not _WORD.fullmatch(event_id):
        event_id = f"{quote(code)}-{quote(told)}"
    return ScheduledEvent(event_id, code, _EVENT_ACTIONS.get(code), told, gmt(told))


def _time_field(document: dict[str, Any], name: str) -> tuple[str, float]:
    told = document.get(name)
    if not isinstance(told, str):
        raise Garbage(f"{name} is {quote(told)}, not a time" if told else f"{name} is missing")
    return told, rfc3339(told)


def _object(body: bytes) -> dict[str, Any]:
    document = _json(body)
    if not isinstance(document, dict):
        raise Garbage(f"{quote(document)} is not an object")
    return document


def _json(body: bytes) -> Any:
    text = _text(body)
    try:
        return json.loads(text)
    # RecursionError: sixty thousand opening brackets are valid so far as they go.
    except (ValueError, RecursionError) as error:
        raise Garbage(f"not JSON: {quote(body)}") from error


def _text(body: bytes) -> str:
    if not body:
        raise Garbage("the answer is empty")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Garbage(f"not UTF-8: {quote(body)}") from error


def _match(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise Garbage(f"{quote(text)} is not a {what}")
    return text
