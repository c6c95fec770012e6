"""Figures as people read them. Every one has its unit."""

from __future__ import annotations

from datetime import datetime, timezone


def span(seconds: float) -> str:
    """A duration: 0.41 s, 12 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    for big, small, name, smaller in ((86400, 3600, "d", "h"), (3600, 60, "h", "min")):
        if whole >= big:
            return _two(whole, big, small, name, smaller)
    return _two(whole, 60, 1, "min", "s") if whole >= 60 else f"{whole} s"


def ago(seconds: float) -> str:
    """An age: nobody needs hundredths of a second of the past."""
    return f"{span(round(seconds))} ago"


def _two(whole: int, big: int, small: int, name: str, smaller: str) -> str:
    count, rest = divmod(whole, big)
    return f"{count} {name}" + (f" {rest // small} {smaller}" if rest // small else "")


def seconds_since(iso: str, now: datetime | None = None) -> float | None:
    """Seconds since a time of a document (ISO 8601, UTC), or None when it is none."""
    try:
        # Python 3.10 does not read the Z.
        then = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=timezone.utc)
    return max(0.0, ((now or datetime.now(timezone.utc)) - then).total_seconds())


def step(number: int | None) -> str:
    """A step, or a dash."""
    return "-" if number is None else f"{number:,}"


def count(number: int, thing: str) -> str:
    """1 step, 2 steps."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
