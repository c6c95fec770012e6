"""From answers to events: what each path of the metadata service means. No I/O.

Each source remembers what it showed last: the deadline of a notice is fixed at first sight of
its key, and only two answers in a row without it say that it is gone. An answer that means
nothing raises Garbage and changes no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from spotwatchd.core import deadline as arithmetic
from spotwatchd.core.events import Event, HintSeen, NoticeGone, NoticeSeen
from spotwatchd.core.words import MachineAction, Notice
from spotwatchd.watch import parse
from spotwatchd.watch.fetch import Answer
from spotwatchd.watch.health import Upcoming

SPOT_PATH = "meta-data/spot/instance-action"
REBALANCE_PATH = "meta-data/events/recommendations/rebalance"
EVENTS_PATH = "meta-data/events/maintenance/scheduled"
AUTOSCALING_PATH = "meta-data/autoscaling/target-lifecycle-state"

# How often the other paths are asked, in polls of spot/instance-action. Each request costs the
# idle daemon a quarter of a poll's CPU time, so what cannot become urgent is asked rarely:
# scheduled events lie far ahead, and an instance outside of an Auto Scaling group stays there.
_OFTEN = 3  # 6 s by default
_RARELY = 15  # 30 s by default

# A single 404 may be a service that just restarted and has not yet heard.
_ABSENCES = 2


class Shown:
    """Memory of one source of notices."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._notice: Notice | None = None
        self._absent = 0

    def seen(
        self, key: str, action: MachineAction, deadline: Callable[[], float], told: str = ""
    ) -> NoticeSeen:
        """The source shows a notice; ``deadline`` is asked at the first sight of its key only."""
        self._absent = 0
        key = f"{self.source}:{key}"
        if self._notice is None or self._notice.key != key:
            self._notice = Notice(self.source, action, deadline(), key, told)
        return NoticeSeen(self._notice)

    def missing(self) -> list[Event]:
        """The source answered, and shows none."""
        self._absent += 1
        if self._notice is None or self._absent < _ABSENCES:
            return []
        self._notice = None
        return [NoticeGone(self.source)]

    def unclear(self) -> None:
        """The source did not answer: whatever was missing before is not missing in a row."""
        self._absent = 0


class SpotSource:
    """spot/instance-action."""

    path = SPOT_PATH

    def __init__(self, remark: Callable[[str], None]) -> None:
        self.shown = Shown("ec2-spot")
        self._remark = remark
        self._remarked = ""

    def read(self, answer: Answer) -> list[Event]:
        """Raises Garbage."""
        if answer.body is None:
            return self.shown.missing()
        spot = parse.instance_action(answer.body)
        if spot.unknown and spot.unknown != self._remarked:
            self._remarked = spot.unknown
            self._remark(f"unknown spot action {spot.unknown}, taken for terminate")
        deadline = partial(arithmetic.deadline, spot.when, answer.stamp)
        key = f"{spot.action.value}:{spot.told}"
        return [self.shown.seen(key, spot.action, deadline, spot.told)]


class RebalanceSource:
    """events/recommendations/rebalance: a hint, told once per recommendation."""

    path = REBALANCE_PATH

    def __init__(self) -> None:
        self.shown = Shown("ec2-rebalance")
        self.every = _OFTEN
        self._told = ""

    def read(self, answer: Answer) -> list[Event]:
        """Raises Garbage."""
        if answer.body is None:
            return []
        told = parse.rebalance(answer.body)
        if told == self._told:
            return []
        self._told = told
        return [HintSeen(f"ec2-rebalance:{told}")]


class EventsSource:
    """events/maintenance/scheduled: notices when near, otherwise listed as upcoming.

    system-maintenance (network or power) and codes that nobody knows do not take the machine
    away for good, so when near they are hints: save early, keep training.
    """

    path = EVENTS_PATH

    def __init__(self, lead: float) -> None:
        self.shown = Shown("ec2-event")
        self.every = _RARELY
        self.upcoming: tuple[Upcoming, ...] = ()
        self.wrong = ""
        self._lead = lead
        self._hinted: set[str] = set()

    def read(self, answer: Answer) -> list[Event]:
        """Raises Garbage. What was wrong with single entries is left in ``wrong``."""
        none: tuple[list[parse.ScheduledEvent], str] = ([], "")
        events, self.wrong = none if answer.body is None else parse.scheduled_events(answer.body)
        left = {event: arithmetic.seconds_until(event.when, answer.stamp) for event in events}
        near = [event for event in events if left[event] <= self._lead]
        self.upcoming = tuple(
            Upcoming(event.event_id, event.code, event.told, left[event])
            for event in events
            if event not in near
        )
        return [*self._hints(near), *self._notices(near, answer)]

    def _hints(self, near: list[parse.ScheduledEvent]) -> list[Event]:
        keys = {f"ec2-event:{event.event_id}" for event in near if event.action is None}
        new = keys - self._hinted
        self._hinted = keys
        return [HintSeen(key) for key in sorted(new)]

    def _notices(self, near: list[parse.ScheduledEvent], answer: Answer) -> list[Event]:
        # Earliest first: the later ones change nothing.
        first = next((event for event in near if event.action is not None), None)
        if first is not None and first.action is not None:
            deadline = partial(arithmetic.deadline, first.when, answer.stamp)
            key = f"{first.event_id}:{first.told}"
            return [self.shown.seen(key, first.action, deadline, first.told)]
        # A damaged list may be hiding the very event that it showed before.
        if self.wrong:
            self.shown.unclear()
            return []
        return self.shown.missing()


class AutoscalingSource:
    """autoscaling/target-lifecycle-state: Terminated means soon, and tells no time.

    Without a time one Terminated looks like the next, so the key counts them: one that comes
    after the state was something else is another notice.
    """

    path = AUTOSCALING_PATH

    def __init__(self, seconds: float) -> None:
        self.shown = Shown("ec2-asg")
        self.every = _OFTEN
        self._seconds = seconds
        self._count = 1

    def read(self, answer: Answer) -> list[Event]:
        """Raises Garbage."""
        state = "" if answer.body is None else parse.lifecycle_state(answer.body)
        self.every = _OFTEN if state else _RARELY
        if state not in ("Terminated", "Warmed:Terminated"):
            gone = self.shown.missing()
            self._count += len(gone)
            return gone
        return [
            self.shown.seen(
                f"{state}:{self._count}",
                MachineAction.TERMINATE,
                lambda: answer.stamp.sent + self._seconds,
            )
        ]
