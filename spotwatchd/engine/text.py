"""The sentences people read while a job runs. Every figure has a unit."""

from __future__ import annotations

from datetime import datetime, timezone

from spotwatchd.control.bodies import EXTERNAL, JobBody
from spotwatchd.core.words import Notice

_SOURCES = {
    "ec2-spot": "EC2 takes this machine back",
    "ec2-asg": "Auto Scaling ends this machine",
    "ec2-event": "EC2 has scheduled an event for this machine",
    "operator": "an interruption was asked for by hand",
}


def to_go_on(body: JobBody, store: str) -> str:
    """What a person does to go on with a job that no daemon starts."""
    command = body.resume_command
    if body.resume == EXTERNAL:
        by_hand = f"; by hand: {command}" if command else ""
        return f"its scheduler starts it again{by_hand}"
    bring = f"spotwatch restore {body.name} --store {store} --to DIR brings its checkpoint"
    return f"to go on: {command or f'start it again by hand; {bring}'}"


def processes(count: int) -> str:
    """How many were asked."""
    return "1 process" if count == 1 else f"{count:,} processes"


def size(count: float) -> str:
    """Bytes as a person says them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def span(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"


def clock_time(wall: float) -> str:
    """Time of day in UTC."""
    return datetime.fromtimestamp(wall, timezone.utc).strftime("%H:%M:%S UTC")


def noticed(notice: Notice, left: float, wall: float) -> str:
    """A notice has been seen."""
    opening = _SOURCES.get(notice.source, f"{notice.source} announces the end of this machine")
    at = clock_time(wall + left)
    return f"{opening} at {at} ({notice.action.value}, {span(max(left, 0.0))} left)"


def taken(attempts: int, *, machine: str, previous: str | None) -> str:
    """The lease is held. What was restored is said by who restored it."""
    here = f" on {machine} (was {previous})" if previous and previous != machine else ""
    return f"attempt {attempts}{here}"


def committed(step: int, count: int | None, seconds: float | None, upcoming: float | None) -> str:
    """A background checkpoint is durable."""
    line = f"step {step:,} committed"
    if count is not None and seconds is not None:
        line += f" ({size(count)} in {span(seconds)})"
    if upcoming is not None:
        line += f"; next in about {span(upcoming)}"
    return line
