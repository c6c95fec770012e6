"""The best set of checkpoints that can be in the store in time, exactly.

With one deadline for all, a link that never idles finishes a set of uploads whatever their
order, if and only if at no moment more bytes are still to be released than the link can
carry in the time that is left. So the question is only *which*, at most one per job: a
knapsack with release times, solved by depth-first search with the bound of its fractional
relaxation, which is cut off after so many nodes (the best so far is then the answer).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from spotwatchd.core.fluid import Item

_NODES = 1500  # about 5 ms of Python
_SLACK = 1e-9  # relative: rounding is no reason not to fit
Key = tuple[str, int]


@dataclass(frozen=True)
class _Option:
    item: Item
    loads: tuple[float, ...]  # bytes to be sent after each moment


def _load(item: Item, moment: float) -> float:
    """Bytes that cannot be sent before ``moment``."""
    if moment <= 0:
        return item.size
    if item.ready < moment:
        return 0.0
    if not item.streams:
        return item.size
    return min(item.size, item.unwritten * (1 - moment / item.ready)) if item.ready > 0 else 0.0


def _fits_alone(item: Item, horizon: float) -> bool:
    time = horizon if item.streams else horizon - item.ready
    return item.ready <= horizon and item.size <= item.limit * time * (1 + _SLACK)


class _Search:
    def __init__(self, items: Sequence[Item], rate: float, horizon: float) -> None:
        moments = sorted({0.0, *(i.ready for i in items if 0 < i.ready <= horizon)})
        self._room = [rate * (horizon - at) * (1 + _SLACK) for at in moments]
        by_job: dict[str, list[_Option]] = {}
        for item in items:
            if item.value > 0 and _fits_alone(item, horizon):
                loads = tuple(_load(item, at) for at in moments)
                by_job.setdefault(item.job, []).append(_Option(item, loads))
        for options in by_job.values():
            options.sort(key=lambda option: -option.item.value)
        self._groups = sorted(by_job.values(), key=lambda o: -max(x.item.density for x in o))
        self._hulls = self._tails()
        self._nodes = 0
        self.value, self.chosen = 0.0, list[Item]()

    def _tails(self) -> list[list[tuple[float, float]]]:
        """For each depth: (density, bytes) of what can still be won, densest first."""
        tails: list[list[tuple[float, float]]] = [[]]
        for options in reversed(self._groups):
            tails.append(sorted(tails[-1] + _hull(options), reverse=True))
        return tails[::-1]

    def _bound(self, depth: int, room: float) -> float:
        total = 0.0
        for density, size in self._hulls[depth]:
            if size >= room:
                return total + density * room
            total += density * size
            room -= size
        return total

    def go(self, depth: int, room: list[float], value: float, path: list[Item]) -> None:
        """Try every option of the job at ``depth``, the most valuable first, then none."""
        self._nodes += 1
        if value > self.value:
            self.value, self.chosen = value, list(path)
        if depth == len(self._groups) or self._nodes > _NODES:
            return
        if value + self._bound(depth, room[0]) <= self.value * (1 + _SLACK):
            return
        for option in self._groups[depth]:
            left = [have - load for have, load in zip(room, option.loads, strict=True)]
            if min(left) >= 0:
                path.append(option.item)
                self.go(depth + 1, left, value + option.item.value, path)
                path.pop()
        self.go(depth + 1, room, value, path)

    def solve(self) -> list[Item]:
        self.go(0, self._room, 0.0, [])
        return self.chosen


def _hull(options: Sequence[_Option]) -> list[tuple[float, float]]:
    """The upper concave hull of (bytes, value) of one job's options, as increments."""
    points = [(0.0, 0.0)]
    for option in sorted(options, key=lambda o: (o.item.size, -o.item.value)):
        size, value = max(option.item.size, 1e-6), option.item.value
        if value <= points[-1][1]:
            continue
        while len(points) > 1 and _steeper(points[-2], points[-1], (size, value)):
            points.pop()
        if size > points[-1][0]:
            points.append((size, value))
        else:
            points[-1] = (size, value)
    pairs = itertools.pairwise(points)
    return [((b[1] - a[1]) / (b[0] - a[0]), b[0] - a[0]) for a, b in pairs]


def _steeper(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether ``b`` lies below the line from ``a`` to ``c``."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def choose(items: Sequence[Item], rate: float, horizon: float) -> list[Item]:
    """The items whose value together is largest among those that fit, at most one per job.

    Args:
        items: all that may be sent.
        rate: of the link, bytes per second.
        horizon: seconds in which the last byte must be acknowledged.
    """
    return _Search(items, rate, horizon).solve() if horizon > 0 and rate > 0 else []
