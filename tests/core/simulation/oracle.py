"""What could have been saved by somebody who knows all sizes, times and rates beforehand.

An upper bound that can be reached: of each job nothing, the sealed or the new checkpoint;
a set is possible only if at no moment more bytes are unsent and not yet readable than the
link can carry from there on. Every set is looked at, but for those that cannot be better.
Written without the core's own planner, which it judges.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.core.simulation.cases import Case, Trained

_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class _Way:
    """One way to serve a job: seconds saved, bytes, and when they can be read."""

    worth: float
    size: float
    ready: float
    streams: bool

    def after(self, moment: float) -> float:
        """Bytes that can only be sent after ``moment``."""
        if moment <= 0:
            return self.size
        if moment > self.ready:
            return 0.0
        return self.size * (1 - moment / self.ready) if self.streams else self.size


def _ways(job: Trained) -> list[_Way]:
    new = _Way(job.done, job.size, job.flush, job.streams)
    if job.sealed is None:
        return [new]
    return [new, _Way(job.sealed, job.size * job.left, 0.0, streams=False)]


def best(case: Case) -> float:
    """Seconds of work of all jobs that can be in the store at the deadline."""
    time = case.window - case.commit
    choices = [[way for way in _ways(job) if way.ready <= time] for job in case.jobs]
    moments = sorted({0.0, *(way.ready for ways in choices for way in ways)})
    room = [case.rate * (time - at) * _ROUNDING for at in moments]
    hopes = [0.0]
    for ways in reversed(choices):
        hopes.append(hopes[-1] + max((way.worth for way in ways), default=0.0))
    return _search(choices, moments, room, hopes[::-1], 0.0)


def _search(
    choices: list[list[_Way]],
    moments: list[float],
    room: list[float],
    hopes: list[float],
    known: float,
) -> float:
    """The best of what is left, given that ``known`` more than this is had already elsewhere."""
    if not choices or hopes[0] <= known:
        return 0.0
    found = 0.0
    for way in choices[0]:
        left = [have - way.after(at) for have, at in zip(room, moments, strict=True)]
        if min(left) >= 0:
            more = max(known, found) - way.worth
            rest = _search(choices[1:], moments, left, hopes[1:], more)
            found = max(found, way.worth + rest)
    rest = _search(choices[1:], moments, room, hopes[1:], max(known, found))
    return max(found, rest)
