"""What the jobs of a fleet wrote themselves, and whether it keeps the promises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path


@dataclass(frozen=True)
class Order:
    """A job of the fleet; ``place`` in the order in which jobs may start."""

    name: str
    gpus: int
    priority: int
    number: int

    @property
    def place(self) -> tuple[int, int]:
        """Higher priority first, then the one registered first."""
        return -self.priority, self.number


@dataclass(frozen=True)
class Attempt:
    """One process: where it ran, on what, from its first line to its last (CLOCK_BOOTTIME)."""

    job: str
    machine: str
    gpus: tuple[int, ...]
    begun: float
    ended: float
    finished: bool

    def overlaps(self, other: Attempt) -> bool:
        """Both ran at one moment."""
        return self.begun < other.ended and other.begun < self.ended


@dataclass(frozen=True)
class Up:
    """A machine: how many GPUs, and when its daemon answered first."""

    gpus: int
    since: float


def attempts(log: Path) -> list[Attempt]:
    """Every process that wrote, by the time of its start."""
    if not log.exists():
        return []
    found: dict[tuple[str, str, int], list[dict[str, object]]] = {}
    for text in log.read_text().splitlines():
        line = json.loads(text)
        found.setdefault((line["job"], line["machine"], line["pid"]), []).append(line)
    made = [
        Attempt(
            job,
            machine,
            tuple(int(word) for word in str(lines[0]["gpus"] or "").split(",") if word),
            float(str(lines[0]["t"])),
            float(str(lines[-1]["t"])),
            lines[-1]["word"] == "ends",
        )
        for (job, machine, _), lines in found.items()
    ]
    return sorted(made, key=lambda each: each.begun)


def used_twice(ran: list[Attempt]) -> list[str]:
    """GPUs of one machine that two processes had at one moment."""
    return [
        f"{one.job} and {other.job} both had {sorted(set(one.gpus) & set(other.gpus))} "
        f"of {one.machine}"
        for one, other in combinations(ran, 2)
        if one.machine == other.machine and set(one.gpus) & set(other.gpus) and one.overlaps(other)
    ]


def ran_twice(ran: list[Attempt]) -> list[str]:
    """Jobs of which two processes ran at one moment."""
    return [
        f"{one.job} ran on {one.machine} and {other.machine} at once"
        for one, other in combinations(ran, 2)
        if one.job == other.job and one.overlaps(other)
    ]


def wrongly_given(ran: list[Attempt], orders: list[Order], ups: Mapping[str, Up]) -> list[str]:
    """Processes that got another number of GPUs than was asked for, or some that are not there."""
    wanted = {order.name: order.gpus for order in orders}
    return [
        f"{each.job} got {each.gpus} on {each.machine}, which has {ups[each.machine].gpus} GPUs"
        for each in ran
        if len(each.gpus) != wanted[each.job] or max(each.gpus, default=0) >= ups[each.machine].gpus
    ]


def unfinished(ran: list[Attempt], orders: list[Order]) -> list[str]:
    """Jobs that did not end, or ended more than once."""
    ends = [each.job for each in ran if each.finished]
    return [
        f"{order.name} ended {ends.count(order.name)} times"
        for order in orders
        if ends.count(order.name) != 1
    ]


def out_of_order(
    ran: list[Attempt], orders: list[Order], ups: Mapping[str, Up], grace: float
) -> list[str]:
    """Starts that passed over a job whose turn it was.

    Its turn it was when it comes first in the order, fits on that machine, and ran nowhere in
    the ``grace`` seconds before, while the machine was up. In less it may have been on its way:
    a lease that runs out, a restore, a daemon that has just heard of it.
    """
    begun = min((each.begun for each in ran), default=0.0)
    by_name = {order.name: order for order in orders}
    found = []
    for start in ran:
        if start.begun - grace < max(ups[start.machine].since, begun):
            continue
        for other in _waiting(start, ran, orders, grace):
            fits = other.gpus <= ups[start.machine].gpus
            if fits and other.place < by_name[start.job].place:
                found.append(f"{start.job} started on {start.machine} before {other.name}")
    return found


def starts_with_a_queue(ran: list[Attempt], orders: list[Order]) -> int:
    """At how many starts another job waited: only those say anything about the order."""
    return sum(any(_waiting(start, ran, orders, 0.0)) for start in ran)


def _waiting(
    start: Attempt, ran: list[Attempt], orders: list[Order], grace: float
) -> Iterator[Order]:
    """Jobs that ran nowhere for ``grace`` seconds before ``start``, and had not ended."""
    for order in orders:
        if order.name == start.job:
            continue
        own = [each for each in ran if each.job == order.name]
        over = any(each.finished and each.ended <= start.begun for each in own)
        busy = any(e.begun <= start.begun and e.ended >= start.begun - grace for e in own)
        if not over and not busy:
            yield order
