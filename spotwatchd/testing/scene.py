"""What happens to the fake instance, and what it was asked. Pure but for the clock."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from spotwatchd.testing.instance import Instance, Tree, fixed_tree, rfc3339

# EC2 allows session tokens to live for one second to six hours.
TOKEN_SECONDS = (1, 21600)


@dataclass(frozen=True)
class Request:
    """A request that the fake received.

    Attributes:
        method: GET, PUT, HEAD ...
        path: e.g. /latest/meta-data/instance-id.
        at: time.monotonic() on arrival.
    """

    method: str
    path: str
    at: float


@dataclass(frozen=True)
class Notice:
    """A spot notice on display; ``when`` is Unix seconds on the service's clock."""

    action: str
    when: float


@dataclass(frozen=True)
class MaintenanceEvent:
    """A scheduled event on display."""

    event_id: str
    code: str
    not_before: float
    not_after: float
    state: str = "active"

    def entry(self) -> dict[str, str]:
        """As in the metadata."""
        return {
            "NotBefore": _event_time(self.not_before),
            "Code": self.code,
            "Description": f"scheduled {self.code}",
            "EventId": self.event_id,
            "NotAfter": _event_time(self.not_after),
            "State": self.state,
        }


class Scene:
    """The variable part of the metadata. Every change is one assignment: threads may make it."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.notice: Notice | None = None
        self.recommended: float | None = None
        self.events: tuple[MaintenanceEvent, ...] = ()
        self.autoscaling: str | None = None
        self.overrides: dict[str, bytes] = {}

    def quiet(self) -> None:
        """Withdraw everything."""
        self.notice, self.recommended, self.events, self.autoscaling = None, None, (), None
        self.overrides = {}

    def tree(self, sliding_to: float | None) -> Tree:
        """``/latest`` now. ``sliding_to`` replaces the time of a notice."""
        tree = fixed_tree(self.instance)
        meta = tree["meta-data"]
        assert isinstance(meta, dict)  # noqa: S101 - fixed_tree made it two lines above
        meta["events"] = self._events()
        if self.autoscaling is not None:
            meta["autoscaling"] = {"target-lifecycle-state": self.autoscaling}
        if self.notice is not None:
            meta["spot"] = _spot(self.notice, sliding_to)
        return tree

    def _events(self) -> Tree:
        entries = [event.entry() for event in self.events]
        events: Tree = {"maintenance": {"history": "[]", "scheduled": _compact(entries)}}
        if self.recommended is not None:
            told = _compact({"noticeTime": rfc3339(self.recommended)})
            events["recommendations"] = {"rebalance": told}
        return events


class Tokens:
    """The session tokens of one fake instance; another fake knows none of them.

    Attributes:
        required: False answers requests without a token too (IMDSv1).
    """

    def __init__(self, *, required: bool) -> None:
        self.required = required
        self._expiry: dict[str, float] = {}

    def issue(self, header: str | None) -> tuple[str, int] | None:
        """A token and its seconds, or None when the TTL header is missing or wrong."""
        if header is None or not (header.isascii() and header.isdigit() and len(header) < 7):
            return None
        seconds = int(header)
        if not TOKEN_SECONDS[0] <= seconds <= TOKEN_SECONDS[1]:
            return None
        value = secrets.token_urlsafe(40) + "=="
        self._expiry[value] = time.monotonic() + seconds
        return value, seconds

    def seconds_left(self, value: str) -> int | None:
        """Of a token that is valid, else None."""
        left = self._expiry.get(value, 0.0) - time.monotonic()
        return int(left) if left > 0 else None

    def expire(self) -> None:
        """Forget them all, as EC2 may when the instance was stopped."""
        self._expiry = {}


def _spot(notice: Notice, sliding_to: float | None) -> Tree:
    told = rfc3339(notice.when if sliding_to is None else sliding_to)
    spot: Tree = {"instance-action": _compact({"action": notice.action, "time": told})}
    if notice.action == "terminate":
        spot["termination-time"] = told
    return spot


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


def _event_time(when: float) -> str:
    return datetime.fromtimestamp(when, timezone.utc).strftime("%d %b %Y %H:%M:%S GMT")
