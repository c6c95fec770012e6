"""How the watching goes: counters, staleness, and what is known of the instance."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

SOURCE = "ec2"


class Failure(str, Enum):
    """Why a request to the metadata service gave nothing."""

    UNREACHABLE = "unreachable"  # no TCP connection: refused, no route, nobody there
    TIMEOUT = "timeout"  # connected, and then no complete answer in time
    DROPPED = "dropped"  # closed or reset instead of an answer
    UNAUTHORIZED = "unauthorized"  # 401, also with a fresh token
    FORBIDDEN = "forbidden"  # 403: metadata is turned off, or the path is not allowed
    SERVER_ERROR = "server_error"  # 5xx
    STATUS = "status"  # any other status that nobody expects here
    GARBAGE = "garbage"  # an answer that means nothing, or only half of one


class WatchState(str, Enum):
    """The watch in one word."""

    STARTING = "starting"  # no poll has ended yet
    WATCHING = "watching"
    FAILING = "failing"  # the newest poll failed, not for long enough to alarm anybody
    STALE = "stale"  # no successful poll for too long: notices would be missed
    ABSENT = "absent"  # there has never been a metadata service here: not on EC2


@dataclass(frozen=True)
class InstanceFacts:
    """Identity of the instance; "" where it is not known (yet)."""

    instance_id: str = ""
    instance_type: str = ""
    availability_zone: str = ""
    life_cycle: str = ""


@dataclass(frozen=True)
class Upcoming:
    """A scheduled event that is active and not yet near enough to be a notice.

    Attributes:
        event_id: EC2's identity of it.
        code: e.g. instance-stop.
        not_before: as EC2 writes it.
        seconds_left: until then, when last seen.
    """

    event_id: str
    code: str
    not_before: str
    seconds_left: float


@dataclass(frozen=True)
class WatchHealth:
    """A snapshot for the status.

    Attributes:
        source: which kind of watcher this is.
        endpoint: the URL it asks.
        state: one word.
        stale: True while the staleness alarm stands.
        last_success_age: seconds since spot/instance-action was answered; None: never.
        polls: polls so far.
        failures: number of failed requests per kind.
        last_error: text of the newest failure, "" when there was none.
        last_error_age: seconds since it; None: there was none.
        imds_v1: True when asked without session tokens.
        instance: identity, best effort.
        upcoming: scheduled events that are not near yet.
    """

    source: str
    endpoint: str
    state: WatchState
    stale: bool
    last_success_age: float | None
    polls: int
    failures: dict[str, int]
    last_error: str
    last_error_age: float | None
    imds_v1: bool
    instance: InstanceFacts
    upcoming: tuple[Upcoming, ...]

    def document(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        document = asdict(self)
        document["state"] = self.state.value
        document["upcoming"] = [asdict(event) for event in self.upcoming]
        return document


@dataclass
class Record:
    """What is counted while watching. Pure: every method is told the time (CLOCK_BOOTTIME).

    ``begun`` is when the watching began: without any success, staleness counts from there.
    """

    begun: float
    stale_seconds: float
    polls: int = 0
    failures: Counter[Failure] = field(default_factory=Counter)
    last_error: str = ""
    last_error_at: float | None = None
    last_success: float | None = None
    answered: bool = False
    _poll_failure: Failure | None = None
    _alarmed_at: float | None = None

    def failed(self, kind: Failure, text: str, now: float) -> None:
        """Count one failed request."""
        self.failures[kind] += 1
        self.last_error, self.last_error_at = text, now
        self.answered = self.answered or kind is not Failure.UNREACHABLE

    def poll_succeeded(self, now: float) -> str:
        """Note a good poll. Returns a line for people when it ends a stale episode, else ""."""
        self.polls += 1
        self.answered = True
        alarmed, silent = self._alarmed_at, now - self._quiet_since()
        self.last_success, self._poll_failure, self._alarmed_at = now, None, None
        if alarmed is None:
            return ""
        return f"metadata service answers again after {silent:.0f} s"

    def poll_failed(self, kind: Failure, now: float) -> str:
        """Note a failed poll. Returns the alarm for people, once per stale episode, else ""."""
        self.polls += 1
        self._poll_failure = kind
        if self._alarmed_at is not None or not self.stale(now):
            return ""
        self._alarmed_at = now
        silent = now - self._quiet_since()
        return (
            f"no successful poll of the metadata service for {silent:.0f} s: "
            f"an interruption notice would be missed (last error: {self.last_error})"
        )

    def stale(self, now: float) -> bool:
        """True when notices could have been missed for too long. Absent is not stale."""
        return not self._absent() and now - self._quiet_since() >= self.stale_seconds

    def state(self, now: float) -> WatchState:
        """The watch in one word."""
        if self.polls == 0:
            return WatchState.STARTING
        if self._absent():
            return WatchState.ABSENT
        if self.stale(now):
            return WatchState.STALE
        return WatchState.FAILING if self._poll_failure else WatchState.WATCHING

    def _absent(self) -> bool:
        # Off EC2 nobody has the link-local address. One answer of any kind, and it is EC2
        # for good: from then on silence is an alarm.
        return not self.answered and self._poll_failure is Failure.UNREACHABLE

    def _quiet_since(self) -> float:
        return self.begun if self.last_success is None else self.last_success
